"""The door new work comes through: it knows who is inside, and closes when the service drains."""

import asyncio

from guard_service.moderation import NotReady


class Door:
    """Counts the RPCs that are inside; closed, it lets no further one in."""

    def __init__(self) -> None:
        self._refusal: str | None = "the service is starting"
        self._num_inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self) -> None:
        """Let RPCs in."""
        self._refusal = None

    def close(self, reason: str) -> None:
        """Refuse every RPC from now on; those inside stay."""
        self._refusal = reason

    def enter(self) -> None:
        """Let one RPC in; raises `NotReady` while closed."""
        if self._refusal is not None:
            raise NotReady(self._refusal)
        self._num_inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """Note that one RPC is over and its reply is sent."""
        self._num_inside -= 1
        if self._num_inside == 0:
            self._empty.set()

    @property
    def num_inside(self) -> int:
        """RPCs that entered and have not left."""
        return self._num_inside

    async def emptied(self) -> None:
        """Wait until nobody is inside."""
        await self._empty.wait()
