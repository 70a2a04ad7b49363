"""Conversations longer than the context, split into windows that fit.

Windows end where turns or sentences end and overlap, so that nothing is judged without what came
just before it. Together they hold every character. They are laid from the start, so the windows of
a growing text stay as they are, all but the last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from guard_service.moderation import Conversation

OVERLAP_SHARE = 1 / 8
"""Part of a window that repeats the end of the one before."""

LABEL_TOKENS = 8
"""Set aside per message: its role label and blank line, and the tokens a cut may split."""

MIN_ROOM = 64
"""Tokens a window must have for its text; in fewer, cutting makes no headway."""

_SENTENCE_ENDS = frozenset(".!?…。！？\n")  # noqa: RUF001 - they end sentences


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a token ends: in which message, and after how many of its characters."""

    message: int
    end: int


def windows(
    conversation: Conversation, *, room: int, token_ends: Callable[[str], list[int]]
) -> list[Conversation]:
    """Windows of at most `room` tokens, `MIN_ROOM` or more; the conversation itself if it fits.

    `token_ends` gives the character offset at which each token of a text ends.
    """
    places = [
        place
        for index, message in enumerate(conversation)
        for place in (
            *[_Place(index, 0)] * LABEL_TOKENS,
            *(_Place(index, end) for end in token_ends(message.content)),
        )
    ]
    parts: list[Conversation] = []
    start = 0
    room -= LABEL_TOKENS  # a window that begins inside a message needs a label of its own
    overlap = int(room * OVERLAP_SHARE)
    while len(places) - start > room:
        cut = _best_border(conversation, places, start + room // 2, start + room)
        parts.append(_part(conversation, places, start, cut))
        start = _best_border(conversation, places, cut - overlap, cut - overlap // 2)
    parts.append(_part(conversation, places, start, len(places)))
    return [part for part in parts if part]


def _best_border(
    conversation: Conversation, places: Sequence[_Place], lowest: int, highest: int
) -> int:
    """The latest of the best places to cut: between turns, sentences, words, or anywhere."""

    def quality(cut: int) -> tuple[int, int]:
        before, after = places[cut - 1], places[cut]
        if before.message != after.message:
            return 3, cut
        text = conversation[before.message].content
        if not 0 < before.end < len(text):
            return 0, cut
        if text[before.end - 1] in _SENTENCE_ENDS and text[before.end].isspace():
            return 2, cut
        return int(text[before.end].isspace()), cut

    return max(range(lowest, highest + 1), key=quality)


def _part(
    conversation: Conversation, places: Sequence[_Place], start: int, stop: int
) -> Conversation:
    """The conversation between two cuts, without messages that are blank there."""
    before = places[start - 1] if start else _Place(0, 0)
    last = places[stop - 1]
    part = []
    for index in range(before.message, last.message + 1):
        message = conversation[index]
        begin = before.end if index == before.message else 0
        end = last.end if index == last.message else len(message.content)
        if content := message.content[begin:end].strip():
            part.append(replace(message, content=content))
    return tuple(part)
