"""A rendered prompt, cut where its tokens may be cut."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A control token of the vocabulary, by name, such as `<|eot_id|>`."""

    name: str


@dataclass(frozen=True, slots=True)
class BeginningOfText:
    """The token a Llama vocabulary starts every text with; nothing where it has none."""


Piece = str | SpecialToken | BeginningOfText


@dataclass(frozen=True, slots=True)
class Prompt:
    """Prefix (constant per policy, judged and leading role), body (content) and suffix (constant).

    The cut is the one that makes piecewise tokens equal those of the whole string: the prefix ends
    with the first role label and its colon, the body starts with a space and ends with a blank
    line. Special tokens exist in the scaffold only; the body is plain text.
    """

    prefix: tuple[Piece, ...]
    body: str
    suffix: tuple[Piece, ...]
