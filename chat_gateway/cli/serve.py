"""`chat-gateway serve`: answer over HTTP and gRPC until told to stop."""

import asyncio
import logging
import os
import signal
import time
from contextlib import AbstractAsyncContextManager

import structlog
import typer

from chat_gateway.cli.options import with_settings
from chat_gateway.cli.side_ports import health_port_of, metrics_port_of
from chat_gateway.composition import (
    Gateway,
    audit_trail,
    composed,
    load_generator,
    read_policies,
)
from chat_gateway.generators.protocol import Generator
from chat_gateway.listening import require_free
from chat_gateway.metrics import Metrics
from chat_gateway.serving import EXIT_UNFINISHED
from chat_gateway.serving import serve as serve_gateway
from chat_gateway.settings import GatewaySettings
from chat_gateway.tracing.off import NoTracing
from chat_gateway.tracing.switch import read_tracing
from guard_service.health_port import HealthPort
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
    _end_on_sigterm()
    tracing = read_tracing(settings)
    configure_logs(settings.log_format, settings.log_level, tracing.log_processors)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    policies = read_policies(settings)
    for port in (settings.http_port, settings.grpc_port):
        if port:
            require_free(settings.host, port)
    metrics = Metrics(exemplar=tracing.exemplar)
    with (
        metrics_port_of(settings, metrics) as metrics_port,
        health_port_of(settings) as health_port,
        tracing.exporting(metrics.spans_ended),
        audit_trail(settings, metrics, tracing) as trail,
    ):
        _log.info(
            "starting",
            generator=settings.generator,
            guard=settings.guard,
            policies=list(policies.by_id),
            metrics_port=metrics_port,
            health_port=health_port.port if health_port else None,
        )
        generator = _loaded(settings, tracing)
        composing = composed(settings, policies, generator, metrics, trail, tracing=tracing)
        status = asyncio.run(_serve(composing, settings, metrics, health_port))
    if status == EXIT_UNFINISHED:
        # A model that hangs still holds its thread; a normal exit would wait for it for ever.
        logging.shutdown()
        os._exit(status)
    raise typer.Exit(status)


async def _serve(
    composing: AbstractAsyncContextManager[Gateway],
    settings: GatewaySettings,
    metrics: Metrics,
    health_port: HealthPort | None,
) -> int:
    async with composing as gateway:
        return await serve_gateway(gateway, settings, metrics, health_port)


def _loaded(settings: GatewaySettings, tracing: NoTracing) -> Generator:
    """Signals during the load end the process at once: nothing is lost yet."""
    began = time.monotonic()
    generator = load_generator(settings, tracing)
    seconds = round(time.monotonic() - began, 2)
    _log.info("generator loaded", models=list(generator.models), seconds=seconds)
    if settings.generator == "embedded":
        _log.warning("the embedded model is demonstration grade: do not rely on its answers")
    return generator


def _end_on_sigterm() -> None:
    """Until the event loop takes over: the first process of a container has no default for it."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
