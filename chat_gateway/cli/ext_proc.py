"""`chat-gateway ext-proc`: judge what passes through Envoy until told to stop."""

import asyncio
from contextlib import AbstractAsyncContextManager

import structlog
import typer

from chat_gateway.cli.options import with_ext_proc_settings
from chat_gateway.cli.side_ports import health_port_of, metrics_port_of
from chat_gateway.composition import Gateway, audit_trail, composed, read_policies
from chat_gateway.ext_proc.serving import serve
from chat_gateway.ext_proc.upstream import EnvoyUpstream
from chat_gateway.listening import require_free
from chat_gateway.metrics import Metrics
from chat_gateway.settings import ExtProcSettings
from chat_gateway.tracing.switch import read_tracing
from guard_service.health_port import HealthPort
from guard_service.logs import configure_logs

_log = structlog.get_logger(__name__)


@with_ext_proc_settings
def ext_proc(settings: ExtProcSettings) -> None:
    """Judge chats that pass through Envoy, as its external processor (ext_proc).

    Needs a running guard (--guard), and an Envoy configured as in deploy/envoy/ext-proc.yaml. The
    model is the server behind Envoy.

    Every setting can be given as an option, as an environment variable, or in the YAML file that
    --config names; the first of these wins. The key GATEWAY_AUDIT_KEY is no option: others could
    read it.
    """
    tracing = read_tracing(settings)
    configure_logs(settings.log_format, settings.log_level, tracing.log_processors)
    policies = read_policies(settings)
    if settings.ext_proc_port:
        require_free(settings.host, settings.ext_proc_port)
    metrics = Metrics(exemplar=tracing.exemplar)
    with (
        metrics_port_of(settings, metrics) as metrics_port,
        health_port_of(settings) as health_port,
        tracing.exporting(metrics.spans_ended),
        audit_trail(settings, metrics, tracing) as trail,
    ):
        _log.info(
            "starting",
            guard=settings.guard,
            policies=list(policies.by_id),
            metrics_port=metrics_port,
            health_port=health_port.port if health_port else None,
        )
        upstream = EnvoyUpstream(tracing.headers)
        composing = composed(settings, policies, upstream, metrics, trail, tracing=tracing)
        status = asyncio.run(_serve(composing, settings, metrics, health_port))
    raise typer.Exit(status)


async def _serve(
    composing: AbstractAsyncContextManager[Gateway],
    settings: ExtProcSettings,
    metrics: Metrics,
    health_port: HealthPort | None,
) -> int:
    async with composing as gateway:
        return await serve(gateway, settings, metrics, health_port)
