"""The gRPC server: it binds, answers health, and finishes what it accepted."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from chat_gateway.grpc_server.door import Door
from chat_gateway.grpc_server.interceptor import CallInterceptor
from chat_gateway.grpc_server.options import GrpcOptions
from chat_gateway.grpc_server.servicer import ChatServicer
from chat_gateway.listening import require_free
from chat_gateway.metrics import Metrics
from chat_gateway.v1 import chat_pb2, chat_pb2_grpc
from guard_service.moderation import ConfigurationError

LIVE = "live"
READY = "ready"
OVERALL = ""


class ChatServer:
    """Serves `servicer` while its async context lasts; alive from the start, ready when told."""

    def __init__(self, servicer: ChatServicer, options: GrpcOptions, metrics: Metrics) -> None:
        self._options = options
        self._health = health_aio.HealthServicer()
        self._door = Door()
        self._server = grpc.aio.server(
            interceptors=(CallInterceptor(metrics, self._door),), options=options.transport
        )
        chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if options.reflection:
            names = [
                chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ]
            reflection.enable_server_reflection(names, self._server)
        self.port = 0

    async def __aenter__(self) -> Self:
        self._bind()
        await self._health.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self.show_ready(ready=False)
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.stop(grace=None)

    async def show_ready(self, *, ready: bool) -> None:
        """Say whether new requests are welcome."""
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(READY, status)
        await self._health.set(OVERALL, status)

    async def drain(self, seconds: float) -> None:
        """Refuse new RPCs with `UNAVAILABLE`; wait this long for the rest, then end it.

        gRPC's own stop comes last: it would cancel an RPC that arrives at the same moment.
        """
        self._door.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._door.emptied()
        await self._server.stop(grace=None)

    def _bind(self) -> None:
        host, port = self._options.host, self._options.port
        require_free(host, port)  # gRPC would not say why it cannot bind
        try:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            reason = "the address is not usable"
            raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from error
