"""However long an answer is, what is recorded of it has an end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chat_gateway.tracing.guard import MAX_CHECKPOINTS, TracedGuard
from guard_service.moderation import Message, Role
from guard_service.stream import Checkpoint
from tests.chat_gateway.fakes import verdict


class LongStream:
    """A guard's stream of many checkpoints; the last but one is the first unsafe one."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def checkpoints(self) -> AsyncIterator[Checkpoint]:
        for number in range(1, self._number + 1):
            probability = 0.9 if number >= self._number - 1 else 0.1
            yield Checkpoint(verdict(probability), number, final=number == self._number)


class LongGuard:
    @asynccontextmanager
    async def stream(self, conversation, **_: object) -> AsyncIterator[LongStream]:  # noqa: ARG002
        yield LongStream(1000)


async def test_of_many_checkpoints_the_first_the_decisive_and_the_last_are_told():
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    guard = TracedGuard(LongGuard(), provider.get_tracer("test"))
    async with guard.stream((Message(Role.USER, "Hi"),)) as stream:
        seen = [checkpoint async for checkpoint in stream.checkpoints()]

    [span] = exporter.get_finished_spans()
    told = [event.attributes["moderation.characters"] for event in span.events]
    assert len(seen) == 1000
    assert told == [*range(1, MAX_CHECKPOINTS + 1), 999, 1000]
    assert span.attributes["moderation.num_verdicts"] == 1000
    assert span.attributes["moderation.num_unsafe"] == 2
