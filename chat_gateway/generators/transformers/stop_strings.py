"""Text up to a stop string, which itself is never shown, not even in part."""

from collections.abc import Sequence


class StopStrings:
    """Holds back what may be the beginning of a stop string until it is known not to be one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.met = False

    def push(self, text: str) -> str:
        """The text that is known to come before any stop string; nothing once one is met."""
        if self.met:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        self.met = bool(found)
        return self._release(min(found) if found else len(self._held) - self._num_doubtful())

    def finish(self) -> str:
        """What was held, when nothing more can come."""
        return "" if self.met else self._release(len(self._held))

    def _release(self, num_characters: int) -> str:
        released = self._held[:num_characters]
        self._held = self._held[num_characters:]
        return released

    def _num_doubtful(self) -> int:
        """Length of the longest end of the text that a stop string begins with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        lengths = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in lengths if self._begins_a_stop(self._held[-n:])), 0)

    def _begins_a_stop(self, text: str) -> bool:
        return any(stop.startswith(text) for stop in self._stops)
