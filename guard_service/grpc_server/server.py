"""The server: it binds, warms up, opens its door, drains and stops."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from guard_service.batcher import Batcher
from guard_service.engine.protocol import EngineLost
from guard_service.grpc_server.door import Door
from guard_service.grpc_server.faults import log_fault
from guard_service.grpc_server.health import Health
from guard_service.grpc_server.interceptor import CallInterceptor
from guard_service.grpc_server.options import ServerOptions, transport_options
from guard_service.grpc_server.servicer import GuardServicer
from guard_service.grpc_server.warm_up import warm_up
from guard_service.health_port import HealthPort
from guard_service.listening import require_free
from guard_service.metrics import Metrics
from guard_service.moderation import ConfigurationError
from guard_service.moderator import Moderator
from guard_service.v1 import guard_pb2, guard_pb2_grpc

FAREWELL_SECONDS = 0.5
"""How long callers may linger at the end: watchers of health when all is answered, others when
nothing can be."""

_log = structlog.get_logger(__name__)


class GuardServer:
    """Serves a moderator while its async context lasts, and runs the batcher behind it.

    In the context the port is bound and health is answered; `welcome` lets requests in. Further
    `interceptors` surround its own.
    """

    def __init__(
        self,
        moderator: Moderator,
        batcher: Batcher,
        options: ServerOptions,
        metrics: Metrics,
        health_port: HealthPort | None = None,
        *,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self._moderator = moderator
        self._batcher = batcher
        self._options = options
        self._metrics = metrics
        self._door = Door()
        self._health = Health(
            batcher, metrics, stall_seconds=options.stall_seconds, port=health_port
        )
        calls = CallInterceptor(metrics, self._door, max_unread_seconds=options.stream_idle_seconds)
        self._server = grpc.aio.server(
            interceptors=(*interceptors, calls),
            options=transport_options(
                moderator.limits,
                max_connection_age_seconds=options.max_connection_age_seconds,
            ),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0
        self.is_welcoming = False
        self.is_drained = False
        metrics.show_model(moderator.model)
        metrics.show_policies(moderator.policies.values())
        metrics.watch_queue(batcher)
        metrics.watch_streams(
            lambda: moderator.num_open_streams, max_streams=moderator.limits.max_streams
        )

    async def __aenter__(self) -> Self:
        self._add_services()
        await self._bind()
        await self._health.update()
        await self._server.start()
        _log.info("listening", host=self._options.host, port=self.port)
        self._tasks = [
            asyncio.create_task(self._batcher.run()),
            asyncio.create_task(self._health.keep()),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.stop(grace=None)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def welcome(self) -> None:
        """Warm up, then let requests in.

        Raises:
            ConfigurationError: The model gives no verdict.
        """
        await warm_up(self._moderator)
        self._door.open()
        self.is_welcoming = True
        await self._health.welcome(work=True)
        _log.info("ready", port=self.port, model=self._moderator.model.id)

    async def failed(self) -> None:
        """Return when the service can no longer work, which it should never.

        By then health says so, and those inside have had a moment to hear their error.
        """
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                _log_failure(error)
        self._door.close("the service has failed")
        await self._health.fail()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._door.emptied()
        await self._server.stop(FAREWELL_SECONDS)

    async def drain(self) -> None:
        """Say not ready, go on for the lame-duck time, then refuse new work and finish the rest.

        `is_drained` tells whether everything accepted was answered within the drain time.
        """
        _log.info("draining", num_requests=self._door.num_inside)
        self._metrics.show_draining()
        await self._health.welcome(work=False)
        await asyncio.sleep(self._options.lame_duck_seconds)
        self._door.close("the service is draining")
        try:
            async with asyncio.timeout(self._options.drain_seconds):
                await self._door.emptied()
                await self._batcher.drain()
        except TimeoutError:
            _log.error("drain time is over", num_unanswered=self._door.num_inside)
            return
        await self._server.stop(FAREWELL_SECONDS)
        self.is_drained = True
        _log.info("drained")

    def _add_services(self) -> None:
        servicer = GuardServicer(
            self._moderator, stream_idle_seconds=self._options.stream_idle_seconds
        )
        guard_pb2_grpc.add_GuardServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._server)
        if self._options.reflection:
            names = [
                guard_pb2.DESCRIPTOR.services_by_name["GuardService"].full_name,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ]
            reflection.enable_server_reflection(names, self._server)

    async def _bind(self) -> None:
        host, port = self._options.host, self._options.port
        require_free(host, port)
        try:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}") from error


def _log_failure(error: BaseException) -> None:
    if isinstance(error, EngineLost):
        _log.error("engine lost", reason=str(error))
    else:
        log_fault(error)
