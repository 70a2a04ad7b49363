"""Asking the pipeline, and reading what a client would have seen of the answer."""

import time
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from chat_gateway.chat import (
    Blocked,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    ChoiceFinished,
    GatewayError,
    Judged,
    Sampling,
    TextDelta,
    ToolCallDelta,
    Unjudged,
)
from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.observer import Decision, NullObserver, Observer, Outcome
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import Phase, Role

LONG_SECONDS = 3600.0


def user(text: str) -> ChatMessage:
    return ChatMessage(Role.USER, text)


def asking(*messages: ChatMessage, num_choices: int = 1) -> ChatRequest:
    """A request; without messages, for a story."""
    conversation = messages or (user("Tell me a story"),)
    return ChatRequest(conversation, "scripted", Sampling(num_choices=num_choices))


@dataclass
class Journal(NullObserver):
    """An observer that keeps what it hears."""

    decisions: list[Decision] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    num_released: int = 0
    num_withheld: int = 0
    num_first_texts: int = 0
    generator_errors: list[str] = field(default_factory=list)
    delays: list[Phase] = field(default_factory=list)

    def decided(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def finished(self, outcome: Outcome, *, seconds: float) -> None:  # noqa: ARG002
        self.outcomes.append(outcome)

    def first_text_released(self, *, seconds: float) -> None:  # noqa: ARG002
        self.num_first_texts += 1

    def text_released(self, *, num_characters: int, held_seconds: float) -> None:  # noqa: ARG002
        self.num_released += num_characters

    def text_withheld(self, *, num_characters: int) -> None:
        self.num_withheld += num_characters

    def generator_ended(self, *, seconds: float, error: str) -> None:  # noqa: ARG002
        self.generator_errors.append(error)

    def guard_delayed(self, phase: Phase, *, seconds: float) -> None:  # noqa: ARG002
        self.delays.append(phase)


@dataclass(slots=True)
class Seen:
    """All a client was told, and the error it ended with."""

    events: list[ChatEvent] = field(default_factory=list)
    error: GatewayError | None = None

    def text(self, choice: int = 0) -> str:
        """What was released of one choice, as the transcript of a judge would have it."""
        return transcript_of(self.events, choice)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def blocks(self) -> list[Blocked]:
        return self.of(Blocked)

    @property
    def verdicts(self) -> list[Judged]:
        return self.of(Judged)

    @property
    def unjudged(self) -> list[Unjudged]:
        return self.of(Unjudged)

    @property
    def finishes(self) -> list[ChoiceFinished]:
        return self.of(ChoiceFinished)


async def converse(
    generator: Generator,
    guard: Guard,
    policy: GatewayPolicy | None = None,
    *,
    request: ChatRequest | None = None,
    observer: Observer | None = None,
    seconds: float = LONG_SECONDS,
    tells_held: bool = False,
) -> Seen:
    """Read an answer to its end, whatever end that is."""
    pipeline = ChatPipeline(guard, generator, observer or NullObserver())
    deadline = time.monotonic() + seconds
    seen = Seen()
    told = pipeline.chat(
        request or asking(),
        policy or GatewayPolicy(),
        request_id="request-1",
        deadline=deadline,
        tells_held=tells_held,
    )
    try:
        async with aclosing(told):
            async for event in told:
                seen.events.append(event)
    except GatewayError as error:
        seen.error = error
    return seen


def transcript_of(events: Iterable[object], choice: int) -> str:
    """Every word of one choice, in order, tool calls whole and last, parts a blank line apart.

    A part that goes on after another begins again from its start, as a client reads it.
    """
    parts: list[tuple[str, str]] = []
    tool_calls: dict[int, tuple[str, str]] = {}
    for event in events:
        if isinstance(event, TextDelta) and event.choice == choice and event.text:
            if parts and parts[-1][0] == event.channel:
                parts[-1] = (event.channel, parts[-1][1] + event.text)
            else:
                before = next((text for kind, text in parts[::-1] if kind == event.channel), "")
                parts.append((event.channel, before + event.text))
        elif isinstance(event, ToolCallDelta) and event.choice == choice:
            name, arguments = tool_calls.get(event.index, (event.name, ""))
            tool_calls[event.index] = (name or "", arguments + event.arguments)
    calls = [f"{name}({arguments})" for _, (name, arguments) in sorted(tool_calls.items())]
    return "\n\n".join([text for _, text in parts] + calls)
