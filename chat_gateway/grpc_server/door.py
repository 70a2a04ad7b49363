"""The door RPCs come through: it knows how many are inside, and closes when the gateway drains."""

import asyncio

import grpc

from chat_gateway.grpc_server.call import Context

DRAINING = "the gateway is draining"


class Door:
    """Counts the RPCs that are inside; closed, it lets no further one in."""

    def __init__(self) -> None:
        self._is_open = True
        self._num_inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def num_inside(self) -> int:
        """RPCs that are inside."""
        return self._num_inside

    def close(self) -> None:
        """Refuse every RPC from now on; those inside stay."""
        self._is_open = False

    async def enter(self, context: Context) -> None:
        """Let one RPC in, or end it with `UNAVAILABLE`."""
        if not self._is_open:
            await context.abort(grpc.StatusCode.UNAVAILABLE, DRAINING)
        self._num_inside += 1
        self._empty.clear()
        # The stubs name a class where gRPC takes any callable.
        context.add_done_callback(self._leave)  # type: ignore[arg-type]

    async def emptied(self) -> None:
        """Wait until nobody is inside and every reply is sent."""
        await self._empty.wait()

    def _leave(self, context: Context) -> None:
        del context
        self._num_inside -= 1
        if self._num_inside == 0:
            self._empty.set()
