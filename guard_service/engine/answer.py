"""The verdict grammar in the tokens of one vocabulary.

A guard answers `safe`; or `unsafe`, a line break, and codes joined by commas (`S1,S10`). Where
the numbers are single tokens, every code is one choice. A vocabulary that splits them (SmolLM2
writes 10 as `1`, `0`) is read through a small trie: the choice after `1` is between another digit
and the end of the code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from guard_service.moderation import ConfigurationError

Tokens = tuple[int, ...]
Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class VerdictWords:
    """First tokens that mean safe and unsafe, and the tokens of `unsafe` as the model writes it."""

    safe: Tokens
    unsafe: Tokens
    unsafe_word: Tokens


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """How a list of `len(numbers)` categories is written.

    `opening` leads from the verdict position to the first number, beginning with the verdict word.
    `separator` leads from one number to the next. `trunk` is the run of tokens that several
    numbers share beyond the first choice; empty where every number is a single token.
    """

    opening: Tokens
    separator: Tokens
    numbers: tuple[Tokens, ...]
    trunk: Tokens
    terminators: Tokens

    @property
    def ends(self) -> Tokens:
        """Tokens that may follow a complete number: the separator's first one, then the ends."""
        return (self.separator[0], *self.terminators)

    @property
    def max_tokens(self) -> int:
        """Longest answer: every category listed once."""
        numbers = sum(len(number) + len(self.separator) for number in self.numbers)
        return len(self.opening) + numbers + len(self.trunk)


def verdict_words(encode: Encode, *, spaced: bool) -> VerdictWords:
    """The verdict words of a vocabulary; `spaced` if the model puts a space before its answer.

    Where both words are single tokens their spaced twins count as the same verdict.

    Raises:
        ConfigurationError: if it cannot tell one word from the other, or `safe` by its first token.
    """
    lead = " " if spaced else ""
    safe, unsafe = tuple(encode(f"{lead}safe")), tuple(encode(f"{lead}unsafe"))
    if len(safe) != 1:
        raise ConfigurationError(
            "the vocabulary splits 'safe', which one forward cannot read whole"
        )
    safe_ids, unsafe_ids = {safe[0]}, {unsafe[0]}
    if len(unsafe) == 1:
        for twin in ("", " "):
            safe_twin, unsafe_twin = encode(f"{twin}safe"), encode(f"{twin}unsafe")
            if len(safe_twin) == len(unsafe_twin) == 1:
                safe_ids.add(safe_twin[0])
                unsafe_ids.add(unsafe_twin[0])
    if safe_ids & unsafe_ids:
        raise ConfigurationError("the vocabulary writes 'safe' and 'unsafe' with the same token")
    return VerdictWords(tuple(sorted(safe_ids)), tuple(sorted(unsafe_ids)), unsafe)


def answer_grammar(
    encode: Encode,
    *,
    code_letter: str,
    num_categories: int,
    terminators: Sequence[int],
    spaced: bool,
) -> AnswerGrammar:
    """Work out the grammar by tokenising the answers it has to read.

    Raises:
        ConfigurationError: if the vocabulary writes them in a way one forward cannot read.
    """
    lead = f"{' ' if spaced else ''}unsafe\n{code_letter}"
    # Nine numbers at least, so that the opening does not swallow a lone category's number.
    answers = [tuple(encode(f"{lead}{n}")) for n in range(1, max(num_categories, 9) + 1)]
    opening = _common_start(answers)
    numbers = [answer[len(opening) :] for answer in answers]
    second = tuple(encode(f"{lead}1,{code_letter}2"))[len(answers[0]) :]
    separator = second[: len(second) - len(numbers[1])]
    grammar = AnswerGrammar(
        opening=opening,
        separator=separator,
        numbers=tuple(numbers[:num_categories]),
        trunk=_trunk(numbers[:num_categories]),
        terminators=tuple(terminators),
    )
    _check_lists(grammar, encode, lead, code_letter)
    return grammar


def _common_start(answers: Sequence[Tokens]) -> Tokens:
    columns = zip(*answers, strict=False)
    return tuple(c[0] for c in takewhile(lambda column: len(set(column)) == 1, columns))


def _trunk(numbers: Sequence[Tokens]) -> Tokens:
    """The longest start that longer numbers share; all others must lie on the way to it."""
    forks = {number[:i] for number in numbers for i in range(1, len(number))}
    trunk = max(forks, key=len, default=())
    if any(trunk[: len(fork)] != fork for fork in forks):
        raise ConfigurationError(
            f"this vocabulary splits category numbers into digits, which one forward can read up "
            f"to 19 categories; the policy has {len(numbers)}"
        )
    return trunk


def _check_lists(grammar: AnswerGrammar, encode: Encode, lead: str, letter: str) -> None:
    """The pieces must join to what the tokenizer makes of whole answers."""
    for first, first_tokens in enumerate(grammar.numbers, start=1):
        for then, then_tokens in enumerate(grammar.numbers, start=1):
            whole = tuple(encode(f"{lead}{first},{letter}{then}"))
            pieces = (*grammar.opening, *first_tokens, *grammar.separator, *then_tokens)
            if whole != pieces:
                raise ConfigurationError(
                    f"this vocabulary does not write category lists in a readable way "
                    f"(at '{letter}{first},{letter}{then}')"
                )
