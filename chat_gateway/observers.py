"""Tells several observers of the same events: the metrics, and the audit trail."""

from collections.abc import Sequence

from chat_gateway.observer import Decision, Observer, Outcome
from guard_service.moderation import Phase, Verdict


class Observers:
    """An `Observer` that passes every event on, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def started(self) -> None:
        """Pass it on."""
        for each in self._observers:
            each.started()

    def finished(self, outcome: Outcome, *, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.finished(outcome, seconds=seconds)

    def moderated(self, outcome: Outcome, *, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.moderated(outcome, seconds=seconds)

    def judged(self, phase: Phase, verdict: Verdict) -> None:
        """Pass it on."""
        for each in self._observers:
            each.judged(phase, verdict)

    def decided(self, decision: Decision) -> None:
        """Pass it on."""
        for each in self._observers:
            each.decided(decision)

    def guard_delayed(self, phase: Phase, *, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.guard_delayed(phase, seconds=seconds)

    def first_text_released(self, *, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.first_text_released(seconds=seconds)

    def text_released(self, *, num_characters: int, held_seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.text_released(num_characters=num_characters, held_seconds=held_seconds)

    def text_withheld(self, *, num_characters: int) -> None:
        """Pass it on."""
        for each in self._observers:
            each.text_withheld(num_characters=num_characters)

    def generator_began(self, *, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.generator_began(seconds=seconds)

    def generator_ended(self, *, seconds: float, error: str) -> None:
        """Pass it on."""
        for each in self._observers:
            each.generator_ended(seconds=seconds, error=error)
