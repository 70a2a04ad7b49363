"""A gRPC server that binds, answers health, and finishes what it accepted."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from chat_gateway.grpc_server.door import Door
from chat_gateway.listening import require_free
from guard_service.health_port import LIVE, OVERALL, READY
from guard_service.moderation import ConfigurationError


class DrainingServer:
    """Serves while its async context lasts; alive from the start, ready when told.

    Every RPC of `server` goes through `door`. Port 0 becomes the one that was bound.
    """

    def __init__(self, server: grpc.aio.Server, door: Door, *, host: str, port: int) -> None:
        self.port = port
        self.is_drained = False
        self._server = server
        self._door = door
        self._host = host
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)

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

    @property
    def num_inside(self) -> int:
        """RPCs being answered."""
        return self._door.num_inside

    async def show_ready(self, *, ready: bool) -> None:
        """Say whether new requests are welcome."""
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(READY, status)
        await self._health.set(OVERALL, status)

    async def drain(self, seconds: float) -> None:
        """Refuse new RPCs with `UNAVAILABLE`; wait this long for the rest, then end it.

        `is_drained` tells whether the rest was finished, none of it cut off. gRPC's own stop comes
        last: it would cancel an RPC that arrives at the same moment.
        """
        self._door.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._door.emptied()
                self.is_drained = True
        await self._server.stop(grace=None)

    def _bind(self) -> None:
        host, port = self._host, self.port
        require_free(host, port)  # gRPC would not say why it cannot bind
        try:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            reason = "the address is not usable"
            raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from error
