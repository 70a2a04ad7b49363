"""`guard-service serve`: answer over gRPC until told to stop."""

import asyncio
import logging
import os
import signal
import time
from contextlib import AbstractContextManager, nullcontext

import structlog
import typer

from guard_service import embedded
from guard_service.cli.options import with_settings
from guard_service.composition import compose, load_engine, read_policies
from guard_service.grpc_server.interceptor import JUDGING
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.serving import EXIT_DRAINED
from guard_service.grpc_server.serving import serve as serve_moderator
from guard_service.health_port import HealthPort
from guard_service.listening import require_free
from guard_service.logs import configure_logs
from guard_service.metrics import Metrics
from guard_service.metrics_port import metrics_server
from guard_service.observers import Observers
from guard_service.policy import Policy
from guard_service.settings import ServeSettings
from guard_service.tracing.off import NoTracing
from guard_service.tracing.switch import read_tracing

_log = structlog.get_logger(__name__)


@with_settings(ServeSettings)
def serve(settings: ServeSettings) -> None:
    """Serve verdicts over gRPC.

    Every setting can be given as an option, as an environment variable, or in the YAML file that
    --config names; the first of these wins.
    """
    _end_on_sigterm()
    tracing = read_tracing(settings)
    configure_logs(settings.log_format, settings.log_level, tracing.log_processors)
    policies = read_policies(settings)
    require_free(settings.host, settings.port)
    codes = (code for policy in policies.values() for code in _codes(policy))
    metrics = Metrics(codes, exemplar=tracing.exemplar)
    with (
        _metrics_port(settings, metrics) as metrics_port,
        _health_port(settings) as health_port,
        tracing.exporting(metrics.spans_ended),
    ):
        _log.info(
            "starting",
            model=settings.model or embedded.MODEL_ID,
            metrics_port=metrics_port,
            health_port=health_port.port if health_port else None,
        )
        status = _serve(settings, policies, metrics, tracing, health_port)
        if status != EXIT_DRAINED:
            # A model that hangs still holds its thread; a normal exit would wait for it for ever.
            logging.shutdown()
            os._exit(status)
        raise typer.Exit(status)


def _serve(
    settings: ServeSettings,
    policies: dict[str, Policy],
    metrics: Metrics,
    tracing: NoTracing,
    health_port: HealthPort | None,
) -> int:
    """Load, then serve. Signals during the load end the process at once: nothing is lost yet."""
    began = time.monotonic()
    engine = load_engine(settings, metrics)
    _log.info(
        "model loaded",
        id=engine.info.id,
        revision=engine.info.revision,
        prompt_format=engine.info.prompt_format,
        policies=list(policies),
        seconds=round(time.monotonic() - began, 2),
    )
    if settings.model is None:
        _log.warning("the embedded model is demonstration grade: do not rely on its verdicts")
    observer = Observers([metrics, *tracing.guard_observers()])
    moderator, batcher = compose(engine, settings, policies, observer)
    return asyncio.run(
        serve_moderator(
            moderator,
            batcher,
            _options(settings),
            metrics,
            health_port,
            interceptors=tracing.interceptors(JUDGING),
        )
    )


def _codes(policy: Policy) -> list[str]:
    return [category.code for category in policy.categories]


def _metrics_port(settings: ServeSettings, metrics: Metrics) -> AbstractContextManager[int | None]:
    if settings.metrics_port is None:
        return nullcontext()
    return metrics_server(metrics.registry, settings.host, settings.metrics_port)


def _health_port(settings: ServeSettings) -> AbstractContextManager[HealthPort | None]:
    if settings.health_port is None:
        return nullcontext()
    return HealthPort(settings.host, settings.health_port, stall_seconds=settings.stall_seconds)


def _options(settings: ServeSettings) -> ServerOptions:
    return ServerOptions(
        host=settings.host,
        port=settings.port,
        reflection=settings.reflection,
        lame_duck_seconds=settings.lame_duck_seconds,
        drain_seconds=settings.drain_seconds,
        stall_seconds=settings.stall_seconds,
        stream_idle_seconds=settings.stream_idle_seconds,
        max_connection_age_seconds=settings.max_connection_age_seconds,
    )


def _end_on_sigterm() -> None:
    """Until the event loop takes over: the first process of a container has no default for it."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
