"""Prompt scaffolding typed into content loses its power: its punctuation turns full-width.

Llama Guard's delimiters are ordinary text, so a message that spells one would tokenise exactly as
the scaffold does. Where content spells a marker, its ASCII `< > [ ] :` become their full-width
forms (U+FF1C, U+FF1E, U+FF3B, U+FF3D, U+FF1A). The markers, in any letter case, with white space
or invisible characters in between:

    <BEGIN UNSAFE CONTENT CATEGORIES>   <END UNSAFE CONTENT CATEGORIES>
    <BEGIN CONVERSATION>                <END CONVERSATION>
    [INST]  [/INST]                     <<SYS>>  <</SYS>>
    User:  Agent:                       only where a line starts

Everything else stays as it is, and no character is ever deleted: deleting one could join its
neighbours into a marker. Control tokens such as `<|eot_id|>` need no rewriting: content is encoded
with special tokens off, and their names are then plain text.
"""

import re

_LINE_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
# Controls that are no white space, then Unicode's default-ignorable code points.
_INVISIBLE = (
    r"\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Possessive quantifiers: a run of blanks is read once, so the time stays linear in the text.
_HIDDEN = f"[{_INVISIBLE}]*+"
_GAP = f"[\\s{_INVISIBLE}]*+"
_INDENT = f"(?:[{_INVISIBLE}]|(?![{_LINE_BREAKS}])\\s)*+"
_LINE_START = f"(?<![^{_LINE_BREAKS}])"


def _word(letters: str) -> str:
    return _HIDDEN.join(letters)


def _words(phrase: str) -> str:
    """At least one blank between words, so that a tag like `<EndConversation>` is left alone."""
    return f"[\\s{_INVISIBLE}]++".join(_word(word) for word in phrase.split())


_DELIMITED = _words("UNSAFE CONTENT CATEGORIES") + "|" + _word("CONVERSATION")
_EDGE = f"(?:{_word('BEGIN')}|{_word('END')})[\\s{_INVISIBLE}]++"
_MARKER = re.compile(
    "|".join(
        (
            f"<{_GAP}{_EDGE}(?:{_DELIMITED}){_GAP}>",
            rf"\[{_GAP}/?{_GAP}{_word('INST')}{_GAP}\]",
            f"<{_GAP}<{_GAP}/?{_GAP}{_word('SYS')}{_GAP}>{_GAP}>",
            f"{_LINE_START}{_INDENT}(?:{_word('USER')}|{_word('AGENT')}){_GAP}:",
        )
    ),
    re.IGNORECASE,
)
_FULL_WIDTH = str.maketrans("<>[]:", "＜＞［］：")  # noqa: RUF001


def neutralise(content: str) -> str:
    """Content with every scaffold marker made harmless; idempotent, same length, linear time."""
    return _MARKER.sub(lambda marker: marker[0].translate(_FULL_WIDTH), content)
