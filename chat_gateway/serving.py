"""From the first request to the last: serve HTTP and gRPC until told to stop, then drain."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import structlog
import uvicorn
from starlette.types import ASGIApp

from chat_gateway.composition import Gateway, grpc_server, http_app, with_platform_paths
from chat_gateway.grpc_server.server import ChatServer
from chat_gateway.http_door import HttpDoor
from chat_gateway.listening import listening_socket
from chat_gateway.metrics import Metrics
from chat_gateway.readiness import Readiness
from chat_gateway.settings import GatewaySettings
from chat_gateway.stopping import is_first, stop_signals
from guard_service.health_port import HealthPort

EXIT_DRAINED = 0
EXIT_UNFINISHED = 1

HEADER_BYTES = 65_536
FAREWELL_SECONDS = 1
"""How long requests that were not finished in time have to end once they are cancelled."""

_log = structlog.get_logger(__name__)


async def serve(
    gateway: Gateway,
    settings: GatewaySettings,
    metrics: Metrics,
    health_port: HealthPort | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain at once.

    Returns the exit status for the process.

    Raises:
        ConfigurationError: An address cannot be bound.
    """
    with stop_signals() as (told_to_stop, told_again):
        async with running(gateway, settings, metrics, health_port) as front:
            if await is_first(front.broken(), told_to_stop.wait()):
                return EXIT_UNFINISHED
            if await is_first(told_again.wait(), front.drain()):
                return EXIT_UNFINISHED
            return EXIT_DRAINED if front.is_drained else EXIT_UNFINISHED


class Front:
    """What callers reach: both servers, and what they say about being ready."""

    def __init__(
        self,
        gateway: Gateway,
        settings: GatewaySettings,
        metrics: Metrics,
        listening: socket.socket,
        health_port: HealthPort | None = None,
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._door = HttpDoor(http_app(gateway, settings), metrics)
        app = with_platform_paths(gateway.tracing.http(self._door), settings)
        self._http = _HttpServer(_uvicorn_config(app))
        self.grpc: ChatServer | None = grpc_server(gateway, settings, metrics)
        self._readiness = Readiness(gateway, metrics, health_port, self._tell_callers)
        self._tasks: list[asyncio.Task[None]] = []
        self._http_finished = False
        metrics.show_request_limit(settings.max_concurrent_requests)
        metrics.show_policies(gateway.policies.by_id.values())

    @property
    def http_port(self) -> int:
        """The port that was bound."""
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def is_drained(self) -> bool:
        """Whether everything accepted was answered within the drain time."""
        return self._http_finished and (self.grpc is None or self.grpc.is_drained)

    def start(self) -> None:
        """Answer HTTP, and keep saying whether an answer can be expected."""
        self._tasks = [
            asyncio.create_task(self._http.serve([self._listening])),
            asyncio.create_task(self._readiness.keep()),
            asyncio.create_task(self._readiness.keep_alive()),
        ]

    async def broken(self) -> None:
        """Return when the gateway can no longer work, which it should never."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        _log.error("the gateway broke", kinds=[type(error).__name__ for error in self._errors()])

    async def stop(self) -> None:
        """Close what is open."""
        self._http.should_exit = True
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._errors()

    async def drain(self) -> None:
        """Say not ready, go on for the lame-duck time, then refuse new work and finish the rest."""
        _log.info("draining", num_http_requests=self._door.num_inside)
        self._door.leave()
        await self._readiness.leave()
        await asyncio.sleep(self._settings.lame_duck_seconds)
        self._door.close()
        await asyncio.gather(self._finish_http(), self._finish_grpc())
        if self.is_drained:
            _log.info("drained")
        else:
            _log.error("drain time is over", num_http_requests=self._door.num_inside)

    async def _finish_http(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._door.emptied()
                self._http_finished = True

    async def _finish_grpc(self) -> None:
        if self.grpc is not None:
            await self.grpc.drain(self._settings.drain_seconds)

    async def _tell_callers(self, ready: bool) -> None:  # noqa: FBT001 - the readiness's word
        if self.grpc is not None:
            await self.grpc.show_ready(ready=ready)

    def _errors(self) -> list[BaseException]:
        """What ended the tasks that should not have ended."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return [error for task in ended if (error := task.exception()) is not None]


@asynccontextmanager
async def running(
    gateway: Gateway,
    settings: GatewaySettings,
    metrics: Metrics,
    health_port: HealthPort | None = None,
) -> AsyncIterator[Front]:
    """Both servers while the context lasts; not drained on leaving.

    Raises:
        ConfigurationError: An address cannot be bound.
    """
    with listening_socket(settings.host, settings.http_port) as listening:
        front = Front(gateway, settings, metrics, listening, health_port)
        async with _entered(front.grpc):
            front.start()
            _log.info(
                "listening",
                http=f"http://{settings.host}:{front.http_port}",
                grpc_port=front.grpc.port if front.grpc else None,
            )
            try:
                yield front
            finally:
                await front.stop()


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the drain is ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
        http="h11",
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=FAREWELL_SECONDS,
    )


@asynccontextmanager
async def _entered(server: ChatServer | None) -> AsyncIterator[None]:
    if server is None:
        yield
        return
    async with server:
        yield
