"""How a request ended, told once, whatever ended it."""

import time
from types import TracebackType
from typing import Self

from chat_gateway.chat import (
    Blocked,
    ChatEvent,
    GeneratorFailed,
    GuardUnavailable,
    InvalidChat,
    OutOfTime,
    TooBusy,
)
from chat_gateway.observer import Observer, Outcome
from guard_service.moderation import Phase

_OUTCOMES: tuple[tuple[type[Exception], Outcome], ...] = (
    (InvalidChat, Outcome.REFUSED),
    (TooBusy, Outcome.BUSY),
    (GuardUnavailable, Outcome.GUARD_UNAVAILABLE),
    (GeneratorFailed, Outcome.GENERATOR_FAILED),
    (OutOfTime, Outcome.OUT_OF_TIME),
    (Exception, Outcome.FAILED),
)


class OutcomeReport:
    """Context manager around the handling of one request."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._outcome = Outcome.ANSWERED
        self._started = time.monotonic()

    def saw(self, event: ChatEvent) -> None:
        """An event that is about to go to the client."""
        if isinstance(event, Blocked):
            is_prompt = event.phase is Phase.PROMPT
            self._outcome = Outcome.PROMPT_BLOCKED if is_prompt else Outcome.RESPONSE_BLOCKED

    def __enter__(self) -> Self:
        self._observer.started()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After a blocked prompt nothing was left to come, so nobody who stops reading leaves.
        if error is not None and self._outcome is not Outcome.PROMPT_BLOCKED:
            self._outcome = outcome_of(error)
        self._observer.finished(self._outcome, seconds=time.monotonic() - self._started)


def outcome_of(error: BaseException) -> Outcome:
    """The outcome of a request that ended in this error."""
    return next(
        (outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), Outcome.CANCELLED
    )
