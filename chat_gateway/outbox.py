"""What is ready for the client, in order."""

import asyncio

from chat_gateway.chat import ChatEvent, GatewayError, OutOfTime, TextDelta, ToolCallDelta
from chat_gateway.exchange import Exchange


def num_characters_of(event: ChatEvent) -> int:
    """How much text an event carries, in code points."""
    if isinstance(event, TextDelta):
        return len(event.text)
    return len(event.arguments) if isinstance(event, ToolCallDelta) else 0


class Outbox:
    """A queue from the makers of events to the one who reads them.

    With `silent`, nothing that is only `told` reaches the reader.
    """

    def __init__(self, *, silent: bool) -> None:
        self.num_characters = 0
        self._silent = silent
        self._events: asyncio.Queue[ChatEvent | GatewayError | None] = asyncio.Queue()

    @property
    def is_empty(self) -> bool:
        """Whether the reader has taken everything."""
        return self._events.empty()

    def put(self, event: ChatEvent) -> None:
        """Hand an event to the reader."""
        self.num_characters += num_characters_of(event)
        self._events.put_nowait(event)

    def tell(self, event: ChatEvent) -> None:
        """Hand over what a shadow mode keeps to itself."""
        if not self._silent:
            self.put(event)

    def fail(self, error: GatewayError) -> None:
        """End with an error, after what is already there."""
        self._events.put_nowait(error)

    def end(self) -> None:
        """Nothing more will come."""
        self._events.put_nowait(None)

    async def get(self, exchange: Exchange) -> ChatEvent | None:
        """The next event, or None after the last.

        Raises:
            GatewayError: the one it ended with, or OutOfTime.
        """
        if self._events.empty():
            try:
                async with asyncio.timeout(exchange.seconds_left()):
                    item = await self._events.get()
            except TimeoutError:
                raise OutOfTime("the request's deadline passed") from None
        else:
            item = self._events.get_nowait()
        if isinstance(item, GatewayError):
            raise item
        if item is not None:
            self.num_characters -= num_characters_of(item)
        return item
