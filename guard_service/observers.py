"""Tells several observers of the same events: the metrics, and the spans."""

from collections.abc import Sequence

from guard_service.moderation import Verdict
from guard_service.observer import Drop, Observer
from guard_service.ticket import Scored


class Observers:
    """An `Observer` that passes every event on, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def judged(self, verdict: Verdict) -> None:
        """Pass it on."""
        for each in self._observers:
            each.judged(verdict)

    def tokenised(self, *, num_tokens: int, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.tokenised(num_tokens=num_tokens, seconds=seconds)

    def scored(self, scored: Scored) -> None:
        """Pass it on."""
        for each in self._observers:
            each.scored(scored)

    def batch_scored(self, *, num_items: int, num_tokens: int, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.batch_scored(num_items=num_items, num_tokens=num_tokens, seconds=seconds)

    def dropped(self, reason: Drop) -> None:
        """Pass it on."""
        for each in self._observers:
            each.dropped(reason)

    def memory_ran_out(self) -> None:
        """Pass it on."""
        for each in self._observers:
            each.memory_ran_out()

    def prefix_looked_up(self, *, hit: bool) -> None:
        """Pass it on."""
        for each in self._observers:
            each.prefix_looked_up(hit=hit)
