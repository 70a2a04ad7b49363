"""What the pipeline knows of a generator."""

from collections.abc import AsyncIterator
from typing import Protocol

from chat_gateway.chat import ChatRequest, GeneratorEvent


class Generator(Protocol):
    """Answers conversations. Cancelling the iteration stops the model or closes the upstream."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names a request may ask for; the first is the default."""

    def check(self, request: ChatRequest) -> None:
        """Refuse, before anything is spent, what this generator cannot do; never ignore it.

        Raises:
            InvalidChat: names the parameter and what is allowed.
        """

    def generate(self, request: ChatRequest, *, deadline: float) -> AsyncIterator[GeneratorEvent]:
        """The answer as it is written, whole characters only, each choice ended by its finish.

        `deadline` is on the clock of `time.monotonic`.

        Raises:
            GatewayError: TooBusy, GeneratorFailed, InvalidChat or OutOfTime.
        """

    async def is_ready(self) -> bool:
        """Whether an answer can be expected now."""

    async def close(self) -> None:
        """Stop what runs and free what is held."""
