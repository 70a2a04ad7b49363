"""The stream of one HTTP exchange, as Envoy keeps it open to its processor."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

from chat_gateway.ext_proc.messages import ends_answer
from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2

MAX_WAITING = 4
"""Steps that are read ahead; with more unread, Envoy stops reading the model's server."""


class EnvoyGone(Exception):
    """Envoy ended the stream: the exchange is over, or its client has left."""


class EnvoyStream:
    """Steps of an exchange in, orders to Envoy out; `ended` is set when Envoy ends it.

    `is_answered` says that the client has its whole answer, as far as it is Envoy's to give.

    Use as an async context manager: leaving it stops the reading.
    """

    def __init__(
        self,
        steps: AsyncIterator[pb2.ProcessingRequest],
        write: Callable[[pb2.ProcessingResponse], Awaitable[None]],
    ) -> None:
        self.ended = asyncio.Event()
        self.is_answered = False
        self._steps = steps
        self._write = write
        self._writing = asyncio.Lock()
        self._waiting: asyncio.Queue[pb2.ProcessingRequest] = asyncio.Queue(MAX_WAITING)
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def step(self) -> pb2.ProcessingRequest:
        """The next step.

        Raises:
            EnvoyGone: there is none.
        """
        if not self._waiting.empty():
            return self._waiting.get_nowait()
        getting = asyncio.ensure_future(self._waiting.get())
        ending = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({getting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
        finally:
            getting.cancel()
            ending.cancel()
        raise EnvoyGone

    async def order(self, order: pb2.ProcessingResponse) -> None:
        """Tell Envoy what to do."""
        async with self._writing:
            await self._write(order)
            self.is_answered = self.is_answered or ends_answer(order)

    async def let_end(self) -> None:
        """Drop further steps until Envoy ends the stream."""
        while not self.ended.is_set():
            try:
                await self.step()
            except EnvoyGone:
                return

    async def _read(self) -> None:
        try:
            async for step in self._steps:
                await self._waiting.put(step)
        finally:
            self.ended.set()
