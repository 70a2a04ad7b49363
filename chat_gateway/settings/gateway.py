"""Settings of the gateway itself: where it listens, whom it asks, what it accepts and records."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from chat_gateway.settings.generator import GeneratorSettings, split_commas


def _none_word(value: object) -> object:
    return None if value == "none" else value


OptionalPort = Annotated[int | None, BeforeValidator(_none_word)]


class GatewaySettings(GeneratorSettings):
    """How chat is served, how it is guarded, and the limits of what is asked."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every interface.")
    port: int = Field(8080, ge=0, le=65_535, description="HTTP port; 0 is any free one.")
    grpc_port: OptionalPort = Field(
        50_052,
        ge=0,
        le=65_535,
        description="gRPC port; 0 is any free one, none switches it off.",
        json_schema_extra={"allowed": "0..65535, none"},
    )
    metrics_port: OptionalPort = Field(
        9465,
        ge=0,
        le=65_535,
        description="Port of /metrics on the same host; 0 is any free one, none switches it off.",
        json_schema_extra={"allowed": "0..65535, none"},
    )
    reflection: bool = Field(
        default=True,
        description="Whether gRPC clients may ask for the API's description.",
        json_schema_extra={"allowed": "true, false"},
    )
    guard: str = Field(
        "127.0.0.1:50051",
        min_length=1,
        description="The guard: host:port, dns:///name:port, or ipv4:address:port,address:port.",
    )
    policies: Path | None = Field(
        None, description="YAML file with a list of policies; without it, one strict policy."
    )
    default_policy: str | None = Field(
        None,
        description="Id of the policy used when a request names none; without it, the first.",
    )
    selectable_policies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)] = (
        Field(
            (),
            description="Ids of the policies any request may name beside the default one.",
            json_schema_extra={"allowed": "ids, comma-separated"},
        )
    )
    max_body_bytes: int = Field(
        1_048_576, ge=1024, le=2**30, description="Largest request body, in bytes."
    )
    max_messages: int = Field(100, ge=1, le=100_000, description="Messages in a conversation.")
    max_tokens: int = Field(
        4096, ge=1, le=1_048_576, description="Longest answer a request may ask for, in tokens."
    )
    max_concurrent_requests: int = Field(
        256, ge=1, le=100_000, description="Requests answered at the same time."
    )
    request_timeout_seconds: float = Field(
        300.0, gt=0, le=86_400, description="Longest time a whole answer may take."
    )
    audit_file: Path | None = Field(
        None, description="File that gets one JSON line per decision; without it, none is written."
    )
    audit_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Key of the HMAC that stands for the text in an audit record.",
        json_schema_extra={"allowed": "16 characters or more, not as a flag"},
    )
    audit_required: bool = Field(
        default=False,
        description="Refuse requests while audit records cannot be written.",
        json_schema_extra={"allowed": "true, false"},
    )
    audit_queue_records: int = Field(
        10_000, ge=1, le=1_000_000, description="Audit records that may wait to be written."
    )
    lame_duck_seconds: float = Field(
        5.0,
        ge=0,
        le=600,
        description="After SIGTERM: seconds to go on serving while health says not ready.",
    )
    drain_seconds: float = Field(
        35.0,
        ge=0,
        le=3600,
        description="After the lame duck: seconds to finish what was accepted.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="How log lines are written to standard error."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )

    @model_validator(mode="after")
    def _audit_has_its_parts(self) -> Self:
        if self.audit_file and not self.audit_key:
            raise ValueError(
                "GATEWAY_AUDIT_KEY is missing: an audit record holds an HMAC of the text"
            )
        if self.audit_required and not self.audit_file:
            raise ValueError("GATEWAY_AUDIT_FILE is missing: GATEWAY_AUDIT_REQUIRED needs it")
        return self
