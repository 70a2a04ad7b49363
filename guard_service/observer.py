"""What the core reports as it works; `metrics` is the implementation that Prometheus reads."""

from enum import StrEnum
from typing import Protocol

from guard_service.moderation import Verdict
from guard_service.ticket import Scored


class Drop(StrEnum):
    """Why accepted or offered work ended without a verdict."""

    SHED = "shed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Observer(Protocol):
    """Told of every event the core produces; must be cheap and must not raise."""

    def judged(self, verdict: Verdict) -> None:
        """A verdict was reached."""

    def tokenised(self, *, num_tokens: int, seconds: float) -> None:
        """A request's text became so many new tokens; told in the request's own context."""

    def scored(self, scored: Scored) -> None:
        """One judgement has its scores, with all its batch; told in the request's own context."""

    def batch_scored(self, *, num_items: int, num_tokens: int, seconds: float) -> None:
        """The engine finished one batch; tokens are new ones, without the shared prefix."""

    def dropped(self, reason: Drop) -> None:
        """One piece of work ended without a verdict."""

    def memory_ran_out(self) -> None:
        """A batch, of one or of several, did not fit the device's memory."""

    def prefix_looked_up(self, *, hit: bool) -> None:
        """The engine looked a prompt prefix up in its cache."""


class NullObserver:
    """Hears nothing."""

    def judged(self, verdict: Verdict) -> None:
        """Ignore it."""

    def tokenised(self, *, num_tokens: int, seconds: float) -> None:
        """Ignore it."""

    def scored(self, scored: Scored) -> None:
        """Ignore it."""

    def batch_scored(self, *, num_items: int, num_tokens: int, seconds: float) -> None:
        """Ignore it."""

    def dropped(self, reason: Drop) -> None:
        """Ignore it."""

    def memory_ran_out(self) -> None:
        """Ignore it."""

    def prefix_looked_up(self, *, hit: bool) -> None:
        """Ignore it."""
