"""Settings of the gateway itself: where it listens, whom it asks, what it accepts and records."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from chat_gateway.settings.container_contract import (
    SAGEMAKER,
    ContainerContract,
    vertex_contract,
)
from chat_gateway.settings.generator import GeneratorSettings, split_commas


def _none_word(value: object) -> object:
    return None if value == "none" else value


OTLP_ENDPOINT = r"^(https?://[^\s/?#@]+/?|([^\s/?#@:]+|\[[0-9a-fA-F:.]+\]):\d{1,5})$"

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
    container_contract: Literal["none", "sagemaker", "vertex"] = Field(
        "none",
        description="Hosting platform whose HTTP paths are answered too; vertex takes paths and "
        "port from Vertex AI's AIP_ variables.",
    )
    max_body_bytes: int = Field(
        1_048_576, ge=1024, le=2**30, description="Largest request body, in bytes."
    )
    max_messages: int = Field(100, ge=1, le=100_000, description="Messages in a conversation.")
    max_tokens: int = Field(
        4096, ge=1, le=1_048_576, description="Longest answer a request may ask for, in tokens."
    )
    max_concurrent_requests: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Requests answered at the same time, over HTTP and gRPC together.",
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
    stall_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Seconds for which the event loop may stand still before liveness ends.",
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
        description="OpenTelemetry collector (OTLP over gRPC) that gets spans of every request; "
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
    def contract(self) -> ContainerContract | None:
        """What the hosting platform expects.

        Raises:
            ConfigurationError: its variables are missing or make no sense.
        """
        match self.container_contract:
            case "sagemaker":
                return SAGEMAKER
            case "vertex":
                return vertex_contract()
        return None

    @property
    def http_port(self) -> int:
        """The platform's port where it names one, else `port`."""
        contract = self.contract
        return self.port if contract is None or contract.port is None else contract.port

    @model_validator(mode="after")
    def _audit_has_its_parts(self) -> Self:
        if self.audit_file and not self.audit_key:
            raise ValueError(
                "GATEWAY_AUDIT_KEY is missing: an audit record holds an HMAC of the text"
            )
        if self.audit_required and not self.audit_file:
            raise ValueError("GATEWAY_AUDIT_FILE is missing: GATEWAY_AUDIT_REQUIRED needs it")
        return self
