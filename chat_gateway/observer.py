"""What the pipeline reports as it works; metrics and the audit record are made from it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import Phase, Verdict


class Action(StrEnum):
    """What became of a judged text. `REPORTED` is an unsafe one in a mode that never blocks."""

    PASSED = "passed"
    BLOCKED = "blocked"
    REPORTED = "reported"
    UNJUDGED = "unjudged"


class Part(StrEnum):
    """Which text was judged: the last turn, an earlier one, or what stands beside the messages.

    An answer is the last turn of its conversation.
    """

    LAST_TURN = "last_turn"
    EARLIER_TURN = "earlier_turn"
    FIELDS = "fields"


class Kind(StrEnum):
    """What was asked for: an answer, or verdicts alone."""

    CHAT = "chat"
    MODERATION = "moderation"


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    PROMPT_BLOCKED = "prompt_blocked"
    RESPONSE_BLOCKED = "response_blocked"
    REFUSED = "refused"
    BUSY = "busy"
    GUARD_UNAVAILABLE = "guard_unavailable"
    GENERATOR_FAILED = "generator_failed"
    OUT_OF_TIME = "out_of_time"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided about a prompt (choice None) or about one choice of the answer, once each.

    `verdict` is the one that decided, None where none could be had; `reason` is then the name of
    the guard's error, and otherwise empty. `text` is what it is about, the `part` that decided:
    for a keyed digest and its length only, never to be written anywhere. `guard_seconds` is how
    long the guard was waited for.
    """

    request_id: str
    policy: GatewayPolicy
    phase: Phase
    choice: int | None
    action: Action
    verdict: Verdict | None
    reason: str
    guard_seconds: float
    text: str = field(repr=False)
    kind: Kind = Kind.CHAT
    part: Part = Part.LAST_TURN


class Observer(Protocol):
    """Told of every event of a request; must be cheap and must not raise. Durations in seconds."""

    def started(self) -> None:
        """A chat came in; `finished` follows, whatever happens."""

    def finished(self, outcome: Outcome, *, seconds: float) -> None:
        """A chat ended."""

    def moderated(self, outcome: Outcome, *, seconds: float) -> None:
        """A request for verdicts alone ended."""

    def judged(self, phase: Phase, verdict: Verdict) -> None:
        """A verdict was reached: on a prompt, or on an answer at one checkpoint."""

    def decided(self, decision: Decision) -> None:
        """It is settled what becomes of a prompt or of a choice."""

    def guard_delayed(self, phase: Phase, *, seconds: float) -> None:
        """How much later the guard made the answer start (prompt) or one choice end (response)."""

    def first_text_released(self, *, seconds: float) -> None:
        """The first text or tool call of the answer was released, this long after the start."""

    def text_released(self, *, num_characters: int, held_seconds: float) -> None:
        """Text went to the client; the oldest of it had been held this long."""

    def text_withheld(self, *, num_characters: int) -> None:
        """The generator wrote this, and it will never be released."""

    def generator_began(self, *, seconds: float) -> None:
        """The first event of the generator came, this long after it was asked."""

    def generator_ended(self, *, seconds: float, error: str) -> None:
        """The generator is done; `error` names its error, `cancelled`, or is empty."""


class NullObserver:
    """Hears nothing."""

    def started(self) -> None:
        """Ignore it."""

    def finished(self, outcome: Outcome, *, seconds: float) -> None:
        """Ignore it."""

    def moderated(self, outcome: Outcome, *, seconds: float) -> None:
        """Ignore it."""

    def judged(self, phase: Phase, verdict: Verdict) -> None:
        """Ignore it."""

    def decided(self, decision: Decision) -> None:
        """Ignore it."""

    def guard_delayed(self, phase: Phase, *, seconds: float) -> None:
        """Ignore it."""

    def first_text_released(self, *, seconds: float) -> None:
        """Ignore it."""

    def text_released(self, *, num_characters: int, held_seconds: float) -> None:
        """Ignore it."""

    def text_withheld(self, *, num_characters: int) -> None:
        """Ignore it."""

    def generator_began(self, *, seconds: float) -> None:
        """Ignore it."""

    def generator_ended(self, *, seconds: float, error: str) -> None:
        """Ignore it."""
