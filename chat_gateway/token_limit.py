"""Bounds the length of the answers that may be asked for."""

from collections.abc import AsyncIterator

from chat_gateway.chat import ChatRequest, GeneratorEvent, InvalidChat
from chat_gateway.generators.protocol import Generator


class TokenLimit:
    """A `Generator` that refuses requests for more than `max_tokens`."""

    def __init__(self, generator: Generator, max_tokens: int) -> None:
        self._generator = generator
        self._max_tokens = max_tokens

    @property
    def models(self) -> tuple[str, ...]:
        """Names a request may ask for; the first is the default."""
        return self._generator.models

    def check(self, request: ChatRequest) -> None:
        """Refuse what is too long, or what the generator cannot do; raises `InvalidChat`."""
        asked = request.sampling.max_tokens
        if asked is not None and asked > self._max_tokens:
            raise InvalidChat(
                "max_tokens", f"{asked} asked for, at most {self._max_tokens} allowed (max_tokens)"
            )
        self._generator.check(request)

    def generate(self, request: ChatRequest, *, deadline: float) -> AsyncIterator[GeneratorEvent]:
        """The generator's answer."""
        return self._generator.generate(request, deadline=deadline)

    async def is_ready(self) -> bool:
        """Whether an answer can be expected now."""
        return await self._generator.is_ready()

    async def close(self) -> None:
        """Close the generator."""
        await self._generator.close()
