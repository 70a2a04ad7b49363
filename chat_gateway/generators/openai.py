"""A generator behind any OpenAI-compatible server: vLLM, TGI, llama.cpp or a hosted one."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from chat_gateway.chat import ChatRequest, GeneratorEvent, GeneratorFailed, UnknownModel
from chat_gateway.generators.openai_answer import AnswerReader
from chat_gateway.generators.openai_request import request_body
from chat_gateway.generators.sse import EventReader
from chat_gateway.generators.upstream import DEFAULT_PATIENCE, Patience, Upstream

_END = "[DONE]"


class OpenAIGenerator:
    """Passes chats on to the server at `base_url`, which ends in the version, such as `/v1`.

    An event longer than `max_event_bytes`, or an answer whose stream is longer than
    `max_answer_bytes`, is given up.

    Raises:
        ConfigurationError: the address or the key cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        models: tuple[str, ...],
        api_key: str | None = None,
        ca_file: Path | None = None,
        patience: Patience = DEFAULT_PATIENCE,
        max_connections: int = 256,
        max_event_bytes: int = 2**20,
        max_answer_bytes: int = 2**26,
    ) -> None:
        self._models = models
        self._max_event_bytes = max_event_bytes
        self._max_answer_bytes = max_answer_bytes
        self._upstream = Upstream(
            base_url,
            api_key=api_key,
            ca_file=ca_file,
            patience=patience,
            max_connections=max_connections,
        )

    @property
    def models(self) -> tuple[str, ...]:
        """Names a request may ask for; the first is the default."""
        return self._models

    def check(self, request: ChatRequest) -> None:
        """Refuse models that are not configured; what else it can do, the server knows.

        Raises:
            UnknownModel: there is no such model here.
        """
        if request.model not in self._models:
            raise UnknownModel("model", f"must be one of {', '.join(self._models)}")

    async def generate(
        self, request: ChatRequest, *, deadline: float
    ) -> AsyncIterator[GeneratorEvent]:
        """The server's answer; closing the iterator closes the connection, which stops it.

        `deadline` is on the clock of `time.monotonic`.

        Raises:
            GatewayError: TooBusy, GeneratorFailed, InvalidChat or OutOfTime.
        """
        self.check(request)
        answer = AnswerReader(request.sampling.num_choices)
        body = request_body(request)
        async with (
            self._upstream.post("chat/completions", body, deadline=deadline) as received,
            aclosing(self._events(received)) as events,
        ):
            async for data in events:
                for event in answer.read(data):
                    yield event
            for event in answer.end():
                yield event

    async def is_ready(self) -> bool:
        """Whether the server lists its models; the reply is trusted for a few seconds."""
        return await self._upstream.is_ready()

    async def close(self) -> None:
        """Close every connection."""
        await self._upstream.close()

    async def _events(self, received: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
        """The data of each event until the end mark, or until the stream ends cleanly."""
        reader = EventReader(self._max_event_bytes)
        num_bytes = 0
        async for piece in received:
            num_bytes += len(piece)
            if num_bytes > self._max_answer_bytes:
                raise GeneratorFailed("the model's server did not stop talking")
            for data in reader.feed(piece):
                if data.strip() == _END:
                    return
                yield data
        if reader.is_mid_event:
            raise GeneratorFailed("the model's server stopped in the middle of an event")
