"""Tokens into text as they come: a character split over tokens appears only once it is whole."""

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"


class WholeCharacters:
    """Text of one growing sequence of tokens, read by `decode`."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []  # the last tokens whose text is out, then those still held
        self._num_shown = 0
        self._shown = ""

    def push(self, token: int) -> str:
        """The text this token completes; empty while a character is unfinished."""
        self._window.append(token)
        text = self._decode(self._window)
        if text.endswith(_UNFINISHED) or len(text) <= len(self._shown):
            return ""
        new = text[len(self._shown) :]
        # Some vocabularies write a token differently at the very start, so one piece of context
        # stays in front.
        self._window = self._window[self._num_shown :]
        self._num_shown = len(self._window)
        self._shown = self._decode(self._window)
        return new

    def finish(self) -> str:
        """What was held, without the character that never became whole."""
        return self._decode(self._window)[len(self._shown) :].rstrip(_UNFINISHED)
