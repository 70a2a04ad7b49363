"""Which texts stand in a held-out set, word for word or nearly so."""

import re
from collections import defaultdict
from collections.abc import Iterable

SHINGLE_WORDS = 5
NEAR = 0.5
"""Share of a text's runs of words from which on it nearly equals a held-out text."""


class Fingerprints:
    """The held-out texts, by their words in lower case and every run of `SHINGLE_WORDS`."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole: set[tuple[str, ...]] = set()
        self._shingles: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for number, text in enumerate(texts):
            words = _words(text)
            self._whole.add(words)
            for shingle in _shingles(words):
                self._shingles[shingle].add(number)

    def covers(self, text: str) -> bool:
        """Whether `text` equals or nearly equals a held-out text."""
        words = _words(text)
        if words in self._whole:
            return True
        shingles = _shingles(words)
        shared: dict[int, int] = defaultdict(int)
        for shingle in shingles:
            for number in self._shingles.get(shingle, ()):
                shared[number] += 1
        return max(shared.values(), default=0) > NEAR * len(shingles)


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def _shingles(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [words[i : i + SHINGLE_WORDS] for i in range(len(words) - SHINGLE_WORDS + 1)]
