"""What happens to a call inside the guard: a span for each stage, an event for each verdict."""

import time

from opentelemetry import trace
from opentelemetry.trace import Tracer

from guard_service.moderation import Verdict
from guard_service.observer import Drop, NullObserver
from guard_service.ticket import Scored
from guard_service.tracing.attributes import (
    BODY_TOKENS,
    CACHED_TOKENS,
    NUM_UNSAFE,
    NUM_VERDICTS,
    Attributes,
    score_attributes,
    verdict_attributes,
)
from guard_service.tracing.rpc import ServedCall, served_call

MAX_STAGES = 48
"""Spans in one call: enough for the stages of 16 judgements, of a stream or a batch say."""

MAX_VERDICTS = 64
"""Events in one call; of further verdicts there is the number, and what the last one said."""

_BATCH = "ModerateBatch"
_NS = 1_000_000_000


class StageSpans(NullObserver):
    """An `Observer` that writes into the span of the call its events are for."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def tokenised(self, *, num_tokens: int, seconds: float) -> None:
        """A span that ends now."""
        if call := served_call():
            self._stage(call, "tokenise", seconds, 0.0, {"moderation.tokens.new": num_tokens})

    def scored(self, scored: Scored) -> None:
        """A span for the wait and one for the batch, which ended just now."""
        if call := served_call():
            batch: Attributes = {
                "moderation.batch.items": scored.num_batch_items,
                "moderation.batch.tokens": scored.num_batch_tokens,
            }
            self._stage(call, "queue", scored.queue_seconds, scored.inference_seconds, {})
            self._stage(call, "inference", scored.inference_seconds, 0.0, batch)

    def judged(self, verdict: Verdict) -> None:
        """An event, and what the last verdict says as attributes of the call."""
        call = served_call()
        if call is None:
            return
        call.num_verdicts += 1
        call.num_unsafe += verdict.unsafe
        span = call.span
        span.set_attributes({NUM_VERDICTS: call.num_verdicts, NUM_UNSAFE: call.num_unsafe})
        if call.method != _BATCH:  # there is no last one: each item is a matter of its own
            span.set_attributes(verdict_attributes(verdict))
        if call.num_verdicts <= MAX_VERDICTS:
            span.add_event("verdict", _event(verdict))

    def dropped(self, reason: Drop) -> None:
        """An event."""
        if call := served_call():
            call.span.add_event("dropped", {"moderation.reason": reason.value})

    def _stage(
        self, call: ServedCall, name: str, seconds: float, ended_ago: float, details: Attributes
    ) -> None:
        call.num_stages += 1
        if call.num_stages > MAX_STAGES:
            return
        ended = time.time_ns() - int(ended_ago * _NS)
        span = self._tracer.start_span(
            name,
            trace.set_span_in_context(call.span),
            attributes=details,
            start_time=ended - int(seconds * _NS),
        )
        span.end(ended)


def _event(verdict: Verdict) -> Attributes:
    timings = verdict.timings
    return {
        **score_attributes(verdict),
        BODY_TOKENS: verdict.usage.body_tokens,
        CACHED_TOKENS: verdict.usage.cached_tokens,
        "moderation.tokenise_seconds": timings.tokenise_seconds,
        "moderation.queue_seconds": timings.queue_seconds,
        "moderation.inference_seconds": timings.inference_seconds,
    }
