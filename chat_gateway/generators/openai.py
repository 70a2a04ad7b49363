"""A generator behind any OpenAI-compatible server: vLLM, TGI, llama.cpp or a hosted one."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from chat_gateway.chat import ChatRequest, GeneratorEvent, UnknownModel
from chat_gateway.generators.openai_events import answer_events
from chat_gateway.generators.openai_request import request_body
from chat_gateway.generators.upstream import DEFAULT_PATIENCE, CallHeaders, Patience, Upstream


class OpenAIGenerator:
    """Passes chats on to the server at `base_url`, which ends in the version, such as `/v1`.

    `headers` is asked at every call what to send along.

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
        headers: CallHeaders = tuple,
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
            headers=headers,
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
        async with self._upstream.post(
            "chat/completions", request_body(request), deadline=deadline
        ) as received:
            events = answer_events(
                received,
                request.sampling.num_choices,
                max_event_bytes=self._max_event_bytes,
                max_answer_bytes=self._max_answer_bytes,
            )
            async with aclosing(events):
                async for event in events:
                    yield event

    async def is_ready(self) -> bool:
        """Whether the server lists its models; the reply is trusted for a few seconds."""
        return await self._upstream.is_ready()

    async def close(self) -> None:
        """Close every connection."""
        await self._upstream.close()
