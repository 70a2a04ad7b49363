"""Logits to scores: the verdict, the first category's distribution, and greedy choices.

Works on plain numbers, so that every rule of reading can be tested without a model.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from guard_service.engine.answer import AnswerGrammar, Tokens, VerdictWords
from guard_service.moderation import UnreadableVerdict

Logits = Mapping[int, float]
"""Logit by token id, for the tokens that matter at one position."""


@dataclass(frozen=True, slots=True)
class VerdictReading:
    """What the vocabulary as a whole says at the verdict position and inside the word `unsafe`.

    `likeliest` is the most probable token of the whole vocabulary at each of these positions.
    """

    logits: Logits
    likeliest: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A number chosen greedily, and the end token chosen after it where that is known already."""

    index: int
    end: int | None


def unsafe_probability(words: VerdictWords, reading: VerdictReading) -> float:
    """P(unsafe) in 0..1, normalised over the verdict words.

    Raises:
        UnreadableVerdict: if the likeliest answer is no verdict, or a logit is not finite.
    """
    _require_finite(reading.logits.values())
    if reading.likeliest[0] not in (*words.safe, *words.unsafe):
        raise UnreadableVerdict("the model's answer does not begin with a verdict")
    safe = _log_sum(reading.logits[token] for token in words.safe)
    unsafe = _log_sum(reading.logits[token] for token in words.unsafe)
    return 1.0 / (1.0 + math.exp(min(safe - unsafe, 700.0)))


def require_whole_word(words: VerdictWords, reading: VerdictReading) -> None:
    """An unsafe verdict must be the whole word, where the vocabulary splits it.

    Raises:
        UnreadableVerdict: if greedy decoding would leave the word half way.
    """
    if reading.likeliest[1:] != words.unsafe_word[1:]:
        raise UnreadableVerdict("the model's verdict breaks off inside the word 'unsafe'")


def number_distribution(grammar: AnswerGrammar, nodes: Sequence[Logits]) -> tuple[float, ...]:
    """P(number) for each category number, summing to 1; `nodes` are root and trunk positions.

    Raises:
        UnreadableVerdict: if a logit is not finite.
    """
    for logits in nodes:
        _require_finite(logits.values())
    steps = [_choices(grammar, depth, logits) for depth, logits in enumerate(nodes)]
    return tuple(_probability(grammar, number, steps) for number in grammar.numbers)


def choose_number(
    grammar: AnswerGrammar, nodes: Sequence[Logits], likeliest: Sequence[int] | None = None
) -> Choice:
    """The number greedy decoding writes; `likeliest` of the whole vocabulary, where it is known.

    Raises:
        UnreadableVerdict: if the model would rather write anything but a number of the grammar.
    """
    written: Tokens = ()
    while True:
        if written != grammar.trunk[: len(written)] or len(written) == len(nodes):
            # Off the trunk nothing is left to choose: one number begins this way.
            index = next(i for i, n in enumerate(grammar.numbers) if n[: len(written)] == written)
            return Choice(index, end=None)
        logits = nodes[len(written)]
        options = _continuations(grammar, written)
        if written in grammar.numbers:
            options += grammar.ends
        if likeliest is not None and likeliest[len(written)] not in options:
            raise UnreadableVerdict("the model names a category that the policy does not have")
        token = max(options, key=logits.__getitem__)
        if token in grammar.ends:
            return Choice(grammar.numbers.index(written), end=token)
        written = (*written, token)


def choose_end(grammar: AnswerGrammar, logits: Logits) -> int:
    """The token greedy decoding writes after a complete number."""
    _require_finite(logits.values())
    return max(grammar.ends, key=logits.__getitem__)


def _continuations(grammar: AnswerGrammar, written: Tokens) -> Tokens:
    depth = len(written)
    nexts = {n[depth] for n in grammar.numbers if len(n) > depth and n[:depth] == written}
    return tuple(sorted(nexts))


_END = -1


def _choices(grammar: AnswerGrammar, depth: int, logits: Logits) -> dict[int, float]:
    """Probability of each way on from the trunk at `depth`; all ends count as one."""
    written = grammar.trunk[:depth]
    weights = {token: logits[token] for token in _continuations(grammar, written)}
    if written in grammar.numbers:
        weights[_END] = _log_sum(logits[token] for token in grammar.ends)
    total = _log_sum(weights.values())
    return {token: math.exp(weight - total) for token, weight in weights.items()}


def _probability(
    grammar: AnswerGrammar, number: Tokens, steps: Sequence[Mapping[int, float]]
) -> float:
    probability = 1.0
    for depth, step in enumerate(steps):
        if number[:depth] != grammar.trunk[:depth]:
            break
        probability *= step[number[depth] if depth < len(number) else _END]
    return probability


def _log_sum(values: Iterable[float]) -> float:
    numbers = list(values)
    top = max(numbers)
    return top + math.log(sum(math.exp(n - top) for n in numbers))


def _require_finite(values: Iterable[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise UnreadableVerdict("the model's logits are not finite numbers")
