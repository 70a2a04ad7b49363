"""Settings of the server: where it listens, what it accepts, how it starts and ends."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from guard_service.limits import Limits
from guard_service.settings.model import ModelSettings

_LIMITS = Limits()

OTLP_ENDPOINT = r"^(https?://[^\s/?#@]+/?|([^\s/?#@:]+|\[[0-9a-fA-F:.]+\]):\d{1,5})$"


def _none_word(value: object) -> object:
    return None if value == "none" else value


OptionalPort = Annotated[int | None, BeforeValidator(_none_word)]


class ServeSettings(ModelSettings):
    """How the model is served, and the limits of what it is asked."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every interface.")
    port: int = Field(50_051, ge=0, le=65_535, description="gRPC port; 0 is any free one.")
    metrics_port: OptionalPort = Field(
        9464,
        ge=0,
        le=65_535,
        description="Port of /metrics on the same host; 0 is any free one, none switches it off.",
        json_schema_extra={"allowed": "0..65535, none"},
    )
    health_port: OptionalPort = Field(
        None,
        ge=0,
        le=65_535,
        description="Port of grpc.health.v1 alone, plaintext, open while the model loads; "
        "0 is any free one.",
        json_schema_extra={"allowed": "0..65535, none"},
    )
    reflection: bool = Field(
        default=True,
        description="Whether clients may ask for the API's description.",
        json_schema_extra={"allowed": "true, false"},
    )
    max_batch_tokens: int = Field(
        1024, ge=1, le=1_048_576, description="New tokens in one forward pass."
    )
    max_queue_items: int = Field(1024, ge=1, le=1_000_000, description="Judgements that may wait.")
    max_queue_tokens: int = Field(
        65_536, ge=1, le=100_000_000, description="Tokens of the judgements that may wait."
    )
    max_messages: int = Field(
        _LIMITS.max_messages, ge=1, le=100_000, description="Messages in a conversation."
    )
    max_content_bytes: int = Field(
        _LIMITS.max_content_bytes,
        ge=1,
        le=2**30,
        description="UTF-8 bytes of all messages of a conversation together.",
    )
    max_windows: int = Field(
        _LIMITS.max_windows,
        ge=1,
        le=10_000,
        description="Context windows a long conversation may be split into; 1 refuses long ones.",
    )
    max_batch_conversations: int = Field(
        _LIMITS.max_batch_conversations, ge=1, le=10_000, description="Conversations in a batch."
    )
    max_streams: int = Field(
        _LIMITS.max_streams, ge=0, le=100_000, description="Streams open at the same time."
    )
    max_wait_seconds: float = Field(
        _LIMITS.max_wait_seconds,
        gt=0,
        le=3600,
        description="Longest wait for a verdict; a caller's deadline counts if it is sooner.",
    )
    lame_duck_seconds: float = Field(
        5.0,
        ge=0,
        le=600,
        description="After SIGTERM: seconds to go on serving while health says not serving.",
    )
    drain_seconds: float = Field(
        35.0,
        ge=0,
        le=3600,
        description="After the lame duck: seconds to finish what was accepted.",
    )
    stall_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Seconds without a finished batch, with work waiting, that end liveness.",
    )
    stream_idle_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Seconds after which a stream is closed that brings no text, or whose caller "
        "leaves a verdict unread.",
    )
    max_connection_age_seconds: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="Seconds after which a connection is to be made anew, give or take 10 %: so "
        "clients find servers that came later. What it carries is finished.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="How log lines are written to standard error."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=OTLP_ENDPOINT,
        description="OpenTelemetry collector (OTLP over gRPC) that gets a span of every request; "
        "without it, there are none (extra 'tracing').",
        json_schema_extra={"allowed": "host:port, or an http or https URL"},
    )
    trace_sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the requests that get spans; a caller's own decision comes first.",
    )

    @property
    def limits(self) -> Limits:
        """The limits of a request."""
        return Limits(
            max_messages=self.max_messages,
            max_content_bytes=self.max_content_bytes,
            max_windows=self.max_windows,
            max_batch_conversations=self.max_batch_conversations,
            max_streams=self.max_streams,
            max_wait_seconds=self.max_wait_seconds,
        )
