"""How the guard is getting on with an answer, for clients that show it."""

import time

from pydantic import BaseModel

from chat_gateway.chat import Blocked, ChatEvent, Held, Judged, TextDelta, ToolCallDelta, Unjudged
from chat_gateway.http_api.moderation_result import CategoryFacts, category_facts
from guard_service.moderation import Phase

DETAIL_HEADER = "x-guard-detail"
WITH_VERDICTS = ("1", "2")
WITH_HELD = "2"


class GuardDetail(BaseModel):
    """News from the guard, about the prompt (`choice` null) or about one choice so far.

    Characters are code points: `judged_characters` of what the model wrote have a verdict,
    `released_characters` were sent. `check_ms` is the guard's own time for this verdict,
    `elapsed_ms` the time since the request came in. Without a verdict there is a `reason`.
    """

    phase: Phase
    choice: int | None
    final: bool
    blocked: bool
    unsafe: bool | None = None
    unsafe_probability: float | None = None
    categories: list[CategoryFacts] = []
    model: str | None = None
    policy_id: str | None = None
    judged_characters: int | None = None
    released_characters: int = 0
    check_ms: float | None = None
    elapsed_ms: float
    reason: str | None = None


class HeldDetail(BaseModel):
    """How many code points of one choice are held back now.

    `first_delay_ms` is how much later than written its first text was sent, `end_delay_ms` its
    end; each is there once that was sent.
    """

    choice: int
    characters: int
    first_delay_ms: float | None = None
    end_delay_ms: float | None = None


def held_detail(held: Held) -> HeldDetail:
    """What is held, as clients read it."""
    return HeldDetail(
        choice=held.choice,
        characters=held.num_characters,
        first_delay_ms=_milliseconds(held.first_delay_seconds),
        end_delay_ms=_milliseconds(held.end_delay_seconds),
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


class GuardDetails:
    """Turns the guard's events of one chat into details."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._released: dict[int | None, int] = {}

    def of(self, event: ChatEvent) -> GuardDetail | None:
        """The detail an event gives; most events give none."""
        if isinstance(event, TextDelta):
            self._release(event.choice, event.text)
        elif isinstance(event, ToolCallDelta):
            self._release(event.choice, (event.name or "") + event.arguments)
        elif isinstance(event, Judged | Blocked | Unjudged):
            return self._detail(event)
        return None

    def _release(self, choice: int, text: str) -> None:
        self._released[choice] = self._released.get(choice, 0) + len(text)

    def _detail(self, event: Judged | Blocked | Unjudged) -> GuardDetail:
        verdict = None if isinstance(event, Unjudged) else event.verdict
        detail = GuardDetail(
            phase=event.phase,
            choice=event.choice,
            final=event.final if isinstance(event, Judged) else True,
            blocked=isinstance(event, Blocked),
            judged_characters=event.num_characters if isinstance(event, Judged) else None,
            released_characters=self._released.get(event.choice, 0),
            elapsed_ms=round((time.monotonic() - self._started) * 1000, 1),
        )
        if verdict is None:
            reason = event.reason if isinstance(event, Unjudged) else "the guard gave no verdict"
            return detail.model_copy(update={"reason": reason})
        return detail.model_copy(
            update={
                "unsafe": verdict.unsafe,
                "unsafe_probability": verdict.unsafe_probability,
                "categories": category_facts(verdict),
                "model": verdict.model.id,
                "policy_id": verdict.policy_id,
                "check_ms": round(verdict.timings.total_seconds * 1000, 1),
            }
        )
