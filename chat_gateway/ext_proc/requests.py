"""Which requests are chats to be judged, which may pass, and that all others are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a request."""

    JUDGE = "judge"
    LET_BY = "let by"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class PathRules:
    """Whole paths. What stands nowhere is refused: nobody knows how to judge it."""

    chats: frozenset[str]
    passing: frozenset[str]

    def fate(self, headers: Mapping[str, str]) -> Fate:
        """Of a request with these headers, by its method and its path as Envoy would send it on."""
        method, path = headers.get(":method", ""), headers.get(":path", "").partition("?")[0]
        if method == "POST" and path in self.chats:
            return Fate.JUDGE
        if method in ("GET", "HEAD") and path in self.passing:
            return Fate.LET_BY
        return Fate.REFUSE
