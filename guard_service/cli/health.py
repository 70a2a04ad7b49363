"""`guard-service health`: ask a running guard how it is, for health checks without a shell."""

from typing import Annotated

import typer

from guard_service.client.health import local_target, require_serving
from guard_service.settings import ServeSettings, load

TIMEOUT_SECONDS = 5.0


def health(
    *,
    target: Annotated[
        str | None,
        typer.Option(
            help="Ask here; by default the health port of the settings on this machine, or the "
            "main port.",
            metavar="HOST:PORT",
        ),
    ] = None,
    service: Annotated[
        str, typer.Option(help="What to ask about: live or ready.", metavar="NAME")
    ] = "ready",
) -> None:
    """Ask a running guard how it is: status 0 if it is serving, 1 if not or if nobody answers."""
    require_serving(target or _own_target(), service, timeout_seconds=TIMEOUT_SECONDS)
    typer.echo("serving")


def _own_target() -> str:
    settings = load(ServeSettings)
    return local_target(settings.host, settings.health_port or settings.port)
