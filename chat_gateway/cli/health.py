"""`chat-gateway health`: ask a running gateway how it is, for health checks without a shell."""

from typing import Annotated

import typer

from chat_gateway.chat import GatewayError
from chat_gateway.settings import load
from guard_service.client.health import local_target, require_serving
from guard_service.moderation import ModerationError

TIMEOUT_SECONDS = 5.0


def health(
    *,
    target: Annotated[
        str | None,
        typer.Option(
            help="Ask here; by default the health port of the settings on this machine, or the "
            "gRPC port.",
            metavar="HOST:PORT",
        ),
    ] = None,
    service: Annotated[
        str, typer.Option(help="What to ask about: live or ready.", metavar="NAME")
    ] = "ready",
) -> None:
    """Ask a running gateway how it is: status 0 if it is serving, 1 if not or nobody answers."""
    try:
        require_serving(target or _own_target(), service, timeout_seconds=TIMEOUT_SECONDS)
    except ModerationError as error:
        raise GatewayError(str(error)) from None
    typer.echo("serving")


def _own_target() -> str:
    settings = load()
    port = settings.health_port or settings.grpc_port
    if not port:
        raise typer.BadParameter("the settings name no port to ask; give --target")
    return local_target(settings.host, port)
