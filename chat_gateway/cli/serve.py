"""`chat-gateway serve`: answer over HTTP and gRPC until told to stop."""

import asyncio
import logging
import os
import time
from contextlib import AbstractContextManager, nullcontext

import structlog
import typer

from chat_gateway.audit import AuditTrail
from chat_gateway.cli.options import with_settings
from chat_gateway.composition import (
    Policies,
    audit_trail,
    composed,
    load_generator,
    read_policies,
)
from chat_gateway.generators.protocol import Generator
from chat_gateway.listening import require_free
from chat_gateway.metrics import Metrics, metrics_server
from chat_gateway.serving import EXIT_UNFINISHED
from chat_gateway.serving import serve as serve_gateway
from chat_gateway.settings import GatewaySettings
from guard_service.logs import configure_logs

_log = structlog.get_logger(__name__)


@with_settings
def serve(settings: GatewaySettings) -> None:
    """Serve guarded chat: the OpenAI API and a page over HTTP, and gRPC.

    Needs a running guard (--guard). Without --generator the embedded demonstration model answers.

    Every setting can be given as an option, as an environment variable, or in the YAML file that
    --config names; the first of these wins. The keys GATEWAY_UPSTREAM_API_KEY and
    GATEWAY_AUDIT_KEY are no options: others could read them.
    """
    configure_logs(settings.log_format, settings.log_level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    policies = read_policies(settings)
    for port in (settings.port, settings.grpc_port):
        if port:
            require_free(settings.host, port)
    metrics = Metrics()
    with (
        _metrics_port(settings, metrics) as metrics_port,
        audit_trail(settings, metrics) as trail,
    ):
        _log.info(
            "starting",
            generator=settings.generator,
            guard=settings.guard,
            policies=list(policies.by_id),
            metrics_port=metrics_port,
        )
        generator = _loaded(settings)
        status = asyncio.run(_serve(settings, policies, generator, metrics, trail))
    if status == EXIT_UNFINISHED:
        # A model that hangs still holds its thread; a normal exit would wait for it for ever.
        logging.shutdown()
        os._exit(status)
    raise typer.Exit(status)


async def _serve(
    settings: GatewaySettings,
    policies: Policies,
    generator: Generator,
    metrics: Metrics,
    trail: AuditTrail | None,
) -> int:
    async with composed(settings, policies, generator, metrics, trail) as gateway:
        return await serve_gateway(gateway, settings, metrics)


def _loaded(settings: GatewaySettings) -> Generator:
    """Signals during the load end the process at once: nothing is lost yet."""
    began = time.monotonic()
    generator = load_generator(settings)
    seconds = round(time.monotonic() - began, 2)
    _log.info("generator loaded", models=list(generator.models), seconds=seconds)
    if settings.generator == "embedded":
        _log.warning("the embedded model is demonstration grade: do not rely on its answers")
    return generator


def _metrics_port(
    settings: GatewaySettings, metrics: Metrics
) -> AbstractContextManager[int | None]:
    if settings.metrics_port is None:
        return nullcontext()
    return metrics_server(metrics, settings.host, settings.metrics_port)
