"""What a hosting platform expects of a container: an HTTP port and two paths."""

import os
import re
from dataclasses import dataclass

from guard_service.moderation import ConfigurationError

_MAX_PORT = 65_535
_ROUTE = re.compile(r"/[A-Za-z0-9._~:@/-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerContract:
    """Where the platform asks for health and sends requests; no port means that of the settings."""

    health_path: str
    invoke_path: str
    port: int | None = None
    wraps_instances: bool = False


SAGEMAKER = ContainerContract(health_path="/ping", invoke_path="/invocations")


def vertex_contract() -> ContainerContract:
    """The contract in the environment Vertex AI starts a container with.

    Raises:
        ConfigurationError: a variable is missing or makes no sense.
    """
    port = _variable("AIP_HTTP_PORT")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= _MAX_PORT):
        raise ConfigurationError("AIP_HTTP_PORT is no port; allowed: 1..65535")
    return ContainerContract(
        health_path=_route("AIP_HEALTH_ROUTE"),
        invoke_path=_route("AIP_PREDICT_ROUTE"),
        port=int(port),
        wraps_instances=True,
    )


def _route(name: str) -> str:
    route = _variable(name)
    if not _ROUTE.fullmatch(route):
        raise ConfigurationError(f"{name} is no path; it must begin with / and be plain")
    return route


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(
            f"{name} is not set; Vertex AI sets it, and container_contract 'vertex' needs it"
        )
    return value
