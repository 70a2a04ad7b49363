"""Settings of the gateway as an external processor of Envoy."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from chat_gateway.settings.gateway import GatewaySettings, OptionalPort
from chat_gateway.settings.generator import GeneratorSettings, split_commas
from guard_service.configuration.reference import SettingReference, references

Paths = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]

_OF_OTHER_DOORS = {"port", "grpc_port", "reflection", "container_contract"}


class ExtProcSettings(GatewaySettings):
    """As the gateway's, but for the ports; the model that answers is behind Envoy."""

    ext_proc_port: int = Field(
        50_053, ge=0, le=65_535, description="gRPC port Envoy calls; 0 is any free one."
    )
    metrics_port: OptionalPort = Field(
        9466,
        ge=0,
        le=65_535,
        description="Port of /metrics on the same host; 0 is any free one, none switches it off.",
        json_schema_extra={"allowed": "0..65535, none"},
    )
    ext_proc_chat_paths: Paths = Field(
        ("/v1/chat/completions",),
        min_length=1,
        description="Paths whose POST requests are chats to be judged.",
        json_schema_extra={"allowed": "paths, comma-separated"},
    )
    ext_proc_pass_paths: Paths = Field(
        ("/v1/models",),
        description="Paths whose GET and HEAD requests pass unjudged, and their answers; "
        "everything else is refused.",
        json_schema_extra={"allowed": "paths, comma-separated"},
    )


def ext_proc_references() -> Iterator[SettingReference]:
    """One reference for every setting that means something to an external processor."""
    foreign = _OF_OTHER_DOORS | GeneratorSettings.__annotations__.keys()
    return (each for each in references(ExtProcSettings) if each.name not in foreign)


def own_references() -> Iterator[SettingReference]:
    """Those of them that `serve` has not, or with another default."""
    own = ExtProcSettings.__annotations__
    return (each for each in references(ExtProcSettings) if each.name in own)
