"""The span of a chat, from the request to its outcome, and what is told of it on the way."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Span, Tracer

from chat_gateway.chat import ChatEvent, ChatRequest
from chat_gateway.observer import Action, Decision, NullObserver, Outcome
from chat_gateway.pipeline import Pipeline
from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import Phase
from guard_service.tracing.attributes import (
    CATEGORIES,
    PHASE,
    REQUEST_ID,
    Attributes,
    score_attributes,
)
from guard_service.tracing.span_context import each_within, mark_failed

_CHAT = contexts.create_key("chat")
_FAULTS = {
    Outcome.GUARD_UNAVAILABLE,
    Outcome.GENERATOR_FAILED,
    Outcome.OUT_OF_TIME,
    Outcome.FAILED,
}


@dataclass(slots=True)
class _Chat:
    """The span of a chat, and what is summed up before it is told."""

    span: Span
    num_released: int = 0
    num_withheld: int = 0
    blocked: set[str] = field(default_factory=set)


class TracedPipeline:
    """A `Pipeline` whose chats have a span each; all that is done for one happens within it."""

    def __init__(self, pipeline: Pipeline, tracer: Tracer) -> None:
        self._pipeline = pipeline
        self._tracer = tracer

    def chat(
        self,
        request: ChatRequest,
        policy: GatewayPolicy,
        *,
        request_id: str,
        deadline: float,
        tells_held: bool = False,
    ) -> AsyncGenerator[ChatEvent, None]:
        """As the pipeline's."""
        events = self._pipeline.chat(
            request, policy, request_id=request_id, deadline=deadline, tells_held=tells_held
        )
        attributes: Attributes = {
            REQUEST_ID: request_id,
            "moderation.gateway_policy.id": policy.id,
            "moderation.mode": policy.mode.value,
            "moderation.num_choices": request.sampling.num_choices,
            "moderation.num_messages": len(request.messages),
        }
        return self._within_span(attributes, events)

    async def _within_span(
        self, attributes: Attributes, events: AsyncGenerator[ChatEvent, None]
    ) -> AsyncGenerator[ChatEvent, None]:
        span = self._tracer.start_span("chat", attributes=attributes)
        context = contexts.set_value(_CHAT, _Chat(span), trace.set_span_in_context(span))
        try:
            async with aclosing(each_within(context, events)) as told:
                async for event in told:
                    yield event
        finally:
            span.end()


class ChatSpans(NullObserver):
    """An `Observer` that writes into the span of the chat its events are for."""

    def finished(self, outcome: Outcome, *, seconds: float) -> None:
        """How it ended; a block is no failure."""
        del seconds
        if chat := _current():
            chat.span.set_attributes(
                {
                    "moderation.outcome": outcome.value,
                    "moderation.released_characters": chat.num_released,
                    "moderation.withheld_characters": chat.num_withheld,
                }
            )
            if chat.blocked:
                chat.span.set_attribute(CATEGORIES, sorted(chat.blocked))
            if outcome in _FAULTS:
                mark_failed(chat.span, outcome.value)

    def decided(self, decision: Decision) -> None:
        """An event: what becomes of the prompt, or of a choice."""
        chat = _current()
        if chat is None:
            return
        event: Attributes = {
            PHASE: decision.phase.value,
            "moderation.action": decision.action.value,
            "moderation.guard_seconds": decision.guard_seconds,
            "moderation.characters": len(decision.text),
        }
        if decision.choice is not None:
            event["moderation.choice"] = decision.choice
        if decision.reason:
            event["moderation.reason"] = decision.reason
        if decision.verdict is not None:
            event.update(score_attributes(decision.verdict))
        chat.span.add_event("decision", event)
        if decision.action is Action.BLOCKED and decision.verdict is not None:
            chat.blocked.update(category.code for category in decision.verdict.categories)

    def guard_delayed(self, phase: Phase, *, seconds: float) -> None:
        """What the guard cost; of several choices, the last."""
        if chat := _current():
            chat.span.set_attribute(f"moderation.{phase.value}_delay_seconds", seconds)

    def first_text_released(self, *, seconds: float) -> None:
        """An event."""
        if chat := _current():
            chat.span.add_event("first text released", {"moderation.seconds": seconds})

    def text_released(self, *, num_characters: int, held_seconds: float) -> None:
        """Sum it up: there may be thousands."""
        del held_seconds
        if chat := _current():
            chat.num_released += num_characters

    def text_withheld(self, *, num_characters: int) -> None:
        """Sum it up."""
        if chat := _current():
            chat.num_withheld += num_characters


def _current() -> _Chat | None:
    """The chat that the current task works for, if it is recorded."""
    chat = contexts.get_value(_CHAT)
    return chat if isinstance(chat, _Chat) and chat.span.is_recording() else None
