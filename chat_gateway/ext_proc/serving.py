"""From the first exchange to the last: serve Envoy until told to stop, then drain."""

import asyncio

import structlog

from chat_gateway.composition import Gateway, http_app
from chat_gateway.ext_proc.requests import PathRules
from chat_gateway.ext_proc.server import ProcessorOptions, ProcessorServer
from chat_gateway.metrics import Metrics
from chat_gateway.readiness import Readiness
from chat_gateway.serving import EXIT_DRAINED, EXIT_UNFINISHED
from chat_gateway.settings import ExtProcSettings
from chat_gateway.stopping import is_first, stop_signals
from guard_service.health_port import HealthPort

_log = structlog.get_logger(__name__)


async def serve(
    gateway: Gateway,
    settings: ExtProcSettings,
    metrics: Metrics,
    health_port: HealthPort | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain at once.

    Returns the exit status for the process.

    Raises:
        ConfigurationError: The address cannot be bound.
    """
    server = _server(gateway, settings, metrics)
    metrics.show_request_limit(settings.max_concurrent_requests)
    metrics.show_policies(gateway.policies.by_id.values())

    async def tell_callers(ready: bool) -> None:  # noqa: FBT001 - the readiness's word
        await server.show_ready(ready=ready)

    readiness = Readiness(gateway, metrics, health_port, tell_callers)
    with stop_signals() as (told_to_stop, told_again):
        async with server:
            _log.info("listening", grpc_port=server.port)
            tasks = [
                asyncio.create_task(readiness.keep()),
                asyncio.create_task(readiness.keep_alive()),
            ]
            try:
                if await is_first(_broken(tasks), told_to_stop.wait()):
                    return EXIT_UNFINISHED
                await is_first(told_again.wait(), _drain(server, readiness, settings))
                return EXIT_DRAINED if server.is_drained else EXIT_UNFINISHED
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _broken(tasks: list[asyncio.Task[None]]) -> None:
    """Return when the processor can no longer work, which it should never."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    _log.error("the processor broke")


async def _drain(server: ProcessorServer, readiness: Readiness, settings: ExtProcSettings) -> None:
    """Say not ready, go on for the lame-duck time, then refuse new ones and finish the rest."""
    _log.info("draining", num_exchanges=server.num_inside)
    await readiness.leave()
    await asyncio.sleep(settings.lame_duck_seconds)
    await server.drain(settings.drain_seconds)
    if server.is_drained:
        _log.info("drained")
    else:
        _log.error("drain time is over")


def _server(gateway: Gateway, settings: ExtProcSettings, metrics: Metrics) -> ProcessorServer:
    options = ProcessorOptions(
        host=settings.host,
        port=settings.ext_proc_port,
        max_body_bytes=settings.max_body_bytes,
        rules=PathRules(
            chats=frozenset(settings.ext_proc_chat_paths),
            passing=frozenset(settings.ext_proc_pass_paths),
        ),
    )
    app = gateway.tracing.http(http_app(gateway, settings))
    return ProcessorServer(app, options, metrics)
