"""From the first request to the last: serve HTTP and gRPC until told to stop, then drain."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog
import uvicorn

from chat_gateway.composition import Gateway, grpc_server, http_app
from chat_gateway.grpc_server.server import ChatServer
from chat_gateway.http_door import HttpDoor
from chat_gateway.listening import listening_socket
from chat_gateway.metrics import Metrics
from chat_gateway.settings import GatewaySettings
from guard_service.moderation import ModerationError

EXIT_DRAINED = 0
EXIT_UNFINISHED = 1

UPDATE_SECONDS = 1.0
STEADY_SECONDS = 5.0
GUARD_SECONDS = 2.0
HEADER_BYTES = 65_536
FAREWELL_SECONDS = 1
"""How long requests that were not finished in time have to end once they are cancelled."""

_log = structlog.get_logger(__name__)


async def serve(gateway: Gateway, settings: GatewaySettings, metrics: Metrics) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain at once.

    Returns the exit status for the process.

    Raises:
        ConfigurationError: An address cannot be bound.
    """
    with _stop_signals() as (told_to_stop, told_again):
        async with running(gateway, settings, metrics) as front:
            if await _is_first(front.broken(), told_to_stop.wait()):
                return EXIT_UNFINISHED
            if await _is_first(told_again.wait(), front.drain()):
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
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._metrics = metrics
        self._listening = listening
        self._door = HttpDoor(http_app(gateway, settings), metrics)
        self._http = _HttpServer(_uvicorn_config(self._door))
        self.grpc: ChatServer | None = grpc_server(gateway, settings, metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_welcome = True
        self._was_ready: bool | None = None
        self.is_drained = False

    @property
    def http_port(self) -> int:
        """The port that was bound."""
        port: int = self._listening.getsockname()[1]
        return port

    def start(self) -> None:
        """Answer HTTP, and keep saying whether an answer can be expected."""
        self._tasks = [
            asyncio.create_task(self._http.serve([self._listening])),
            asyncio.create_task(self._keep_readiness()),
        ]

    async def broken(self) -> None:
        """Return when the gateway can no longer work, which it should never."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        _log.error("the gateway broke", kinds=[type(error).__name__ for error in self._errors()])

    async def stop(self) -> None:
        """Close what is open."""
        self._http.should_exit = True
        self._tasks[1].cancel()
        await asyncio.wait(self._tasks)
        self._errors()

    async def drain(self) -> None:
        """Say not ready, go on for the lame-duck time, then refuse new work and finish the rest.

        `is_drained` tells whether everything accepted was answered within the drain time.
        """
        _log.info("draining", num_http_requests=self._door.num_inside)
        self._is_welcome = False
        self._door.leave()
        await self._say_ready(ready=False)
        await asyncio.sleep(self._settings.lame_duck_seconds)
        self._door.close()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await asyncio.gather(self._finish_grpc(), self._door.emptied())
        except TimeoutError:
            _log.error("drain time is over", num_http_requests=self._door.num_inside)
            return
        self.is_drained = True
        _log.info("drained")

    async def _finish_grpc(self) -> None:
        if self.grpc is not None:
            await self.grpc.drain(self._settings.drain_seconds)

    async def _can_answer(self) -> bool:
        try:
            await self._gateway.guard.info(timeout_seconds=GUARD_SECONDS)
        except ModerationError:
            return False
        return await self._gateway.generator.is_ready()

    async def _say_ready(self, *, ready: bool) -> None:
        ready = ready and self._is_welcome  # draining may have begun during the question
        if ready != self._was_ready:
            _log.info("ready" if ready else "not ready")
        self._was_ready = ready
        self._metrics.show_ready(ready=ready)
        if self.grpc is not None:
            await self.grpc.show_ready(ready=ready)

    async def _keep_readiness(self) -> None:
        """It takes the guard and the generator to answer."""
        while True:
            await self._say_ready(ready=self._is_welcome and await self._can_answer())
            await asyncio.sleep(STEADY_SECONDS if self._was_ready else UPDATE_SECONDS)

    def _errors(self) -> list[BaseException]:
        """What ended the tasks that should not have ended."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return [error for task in ended if (error := task.exception()) is not None]


@asynccontextmanager
async def running(
    gateway: Gateway, settings: GatewaySettings, metrics: Metrics
) -> AsyncIterator[Front]:
    """Both servers while the context lasts; not drained on leaving.

    Raises:
        ConfigurationError: An address cannot be bound.
    """
    with listening_socket(settings.host, settings.port) as listening:
        front = Front(gateway, settings, metrics, listening)
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


def _uvicorn_config(app: HttpDoor) -> uvicorn.Config:
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


@contextmanager
def _stop_signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Events for the first and the second signal to stop."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def note() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note)
    try:
        yield first, second
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _is_first(one: Coroutine[Any, Any, Any], other: Coroutine[Any, Any, Any]) -> bool:
    """Run two things until either ends, then cancel the other; whether `one` was the first."""
    tasks = [asyncio.create_task(one), asyncio.create_task(other)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    return tasks[0] in done
