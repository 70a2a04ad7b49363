"""A span around every answer the generator writes, with its length and its end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, Tracer

from chat_gateway.chat import (
    ChatRequest,
    ChoiceFinished,
    GeneratorEvent,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
)
from chat_gateway.generators.protocol import Generator
from guard_service.tracing.attributes import Attributes
from guard_service.tracing.span_context import context_of, each_within, mark_failed


class TracedGenerator:
    """A `Generator` whose answers have a span each; it is the parent of the upstream's own."""

    def __init__(self, generator: Generator, tracer: Tracer, server: str | None) -> None:
        self._generator = generator
        self._tracer = tracer
        self._kind = SpanKind.CLIENT if server else SpanKind.INTERNAL
        self._server = _server_attributes(server) if server else {}

    @property
    def models(self) -> tuple[str, ...]:
        """Names a request may ask for; the first is the default."""
        return self._generator.models

    def check(self, request: ChatRequest) -> None:
        """As the generator's."""
        self._generator.check(request)

    async def generate(
        self, request: ChatRequest, *, deadline: float
    ) -> AsyncGenerator[GeneratorEvent, None]:
        """As the generator's."""
        # A name that was not checked is the caller's text.
        model = request.model if request.model in self.models else "other"
        span = self._tracer.start_span(
            f"chat {model}",
            kind=self._kind,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": model,
                **self._server,
            },
        )
        writing = _Writing(span)
        answer = self._generator.generate(request, deadline=deadline)
        try:
            async with aclosing(each_within(context_of(span), answer)) as events:
                async for event in events:
                    writing.note(event)
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            span.set_attribute("moderation.cancelled", value=True)
            raise
        except Exception as error:
            mark_failed(span, type(error).__name__)
            raise
        finally:
            writing.end()

    async def is_ready(self) -> bool:
        """Whether an answer can be expected now."""
        return await self._generator.is_ready()

    async def close(self) -> None:
        """Close the generator."""
        await self._generator.close()


class _Writing:
    """Sums up what was written, and writes it into the span as that ends."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._num_events = 0
        self._num_characters = 0
        self._finish_reasons: list[str] = []

    def note(self, event: GeneratorEvent) -> None:
        """The next event of the answer."""
        self._num_events += 1
        if self._num_events == 1:
            self._span.add_event("first event")
        match event:
            case TextDelta(_, text):
                self._num_characters += len(text)
            case ToolCallDelta(_, _, arguments):
                self._num_characters += len(arguments)
            case ChoiceFinished(_, reason):
                self._finish_reasons.append(reason.value)
            case TokenUsage(prompt_tokens, completion_tokens):
                self._span.set_attributes(
                    {
                        "gen_ai.usage.input_tokens": prompt_tokens,
                        "gen_ai.usage.output_tokens": completion_tokens,
                    }
                )

    def end(self) -> None:
        """No more is written."""
        self._span.set_attributes(
            {
                "gen_ai.response.finish_reasons": self._finish_reasons,
                "moderation.characters": self._num_characters,
            }
        )
        self._span.end()


def _server_attributes(url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {
        "http.request.method": "POST",
        "server.address": parts.hostname or "",
        "server.port": port,
    }
