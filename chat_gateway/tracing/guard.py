"""A span around every question to the guard, with what it answered."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from opentelemetry.trace import Span, SpanKind, Tracer

from chat_gateway.guard import Guard, GuardStream
from chat_gateway.iteration import closed_after
from guard_service.moderation import Conversation, Verdict
from guard_service.service_info import ServiceInfo
from guard_service.stream import Checkpoint
from guard_service.tracing.attributes import (
    NUM_UNSAFE,
    NUM_VERDICTS,
    REQUEST_ID,
    rpc_attributes,
    score_attributes,
    verdict_attributes,
)
from guard_service.tracing.span_context import context_of, current, mark_failed

MAX_CHECKPOINTS = 64
"""Events in one span; after these only the final checkpoint and the first unsafe one have one."""

_SERVICE = "guard_service.v1.GuardService"


class TracedGuard:
    """A `Guard` whose questions have a span each; it is the parent of the guard's own."""

    def __init__(self, guard: Guard, tracer: Tracer) -> None:
        self._guard = guard
        self._tracer = tracer

    async def moderate(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float = 30.0,
    ) -> Verdict:
        """As the guard's."""
        with self._span("Moderate", request_id) as span, current(context_of(span)):
            verdict = await self._guard.moderate(
                conversation,
                policy_id=policy_id,
                request_id=request_id,
                timeout_seconds=timeout_seconds,
            )
            span.set_attributes(verdict_attributes(verdict))
            return verdict

    @asynccontextmanager
    async def stream(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[GuardStream]:
        """As the guard's."""
        async with AsyncExitStack() as stack:
            span = stack.enter_context(self._span("ModerateStream", request_id))
            opening = self._guard.stream(
                conversation,
                policy_id=policy_id,
                request_id=request_id,
                timeout_seconds=timeout_seconds,
            )
            with current(context_of(span)):
                stream = await stack.enter_async_context(opening)
            traced = _TracedStream(stream, span)
            stack.callback(traced.end)
            yield traced

    async def info(self, *, timeout_seconds: float = 30.0) -> ServiceInfo:
        """As the guard's; without a span, for it is asked all the time."""
        return await self._guard.info(timeout_seconds=timeout_seconds)

    @contextmanager
    def _span(self, method: str, request_id: str) -> Iterator[Span]:
        """A span that ends with the block, failed if the block fails."""
        path = f"{_SERVICE}/{method}"
        attributes = {**rpc_attributes(path), REQUEST_ID: request_id}
        span = self._tracer.start_span(path, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            yield span
        except asyncio.CancelledError:
            span.set_attribute("moderation.cancelled", value=True)
            raise
        except Exception as error:
            mark_failed(span, type(error).__name__)
            raise
        finally:
            span.end()


class _TracedStream:
    """A `GuardStream` that writes its checkpoints into the span."""

    def __init__(self, stream: GuardStream, span: Span) -> None:
        self._stream = stream
        self._span = span
        self._num_checkpoints = 0
        self._num_unsafe = 0
        self._latest: Verdict | None = None

    async def send(self, text: str, *, check: bool = False) -> None:
        """As the guard's."""
        await self._stream.send(text, check=check)

    async def finish(self) -> None:
        """As the guard's."""
        await self._stream.finish()

    async def checkpoints(self) -> AsyncIterator[Checkpoint]:
        """As the guard's."""
        async with closed_after(self._stream.checkpoints()) as checkpoints:
            async for checkpoint in checkpoints:
                self._note(checkpoint)
                yield checkpoint

    def _note(self, checkpoint: Checkpoint) -> None:
        if not self._span.is_recording():
            return
        verdict = checkpoint.verdict
        self._latest = verdict
        self._num_checkpoints += 1
        self._num_unsafe += verdict.unsafe
        is_first_unsafe = verdict.unsafe and self._num_unsafe == 1
        if self._num_checkpoints <= MAX_CHECKPOINTS or checkpoint.final or is_first_unsafe:
            event = {
                **score_attributes(verdict),
                "moderation.characters": checkpoint.num_characters,
                "moderation.final": checkpoint.final,
            }
            self._span.add_event("checkpoint", event)

    def end(self) -> None:
        """Say what the last verdict was, and how many there were."""
        if self._latest is not None:
            self._span.set_attributes(
                {
                    **verdict_attributes(self._latest),
                    NUM_VERDICTS: self._num_checkpoints,
                    NUM_UNSAFE: self._num_unsafe,
                }
            )
