"""The further categories of an unsafe text, read as greedy decoding would write them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from guard_service.engine.answer import AnswerGrammar, Tokens
from guard_service.engine.key_values import KeyValues
from guard_service.engine.packing import PackedSequence
from guard_service.engine.reading import (
    Logits,
    choose_end,
    choose_number,
    number_distribution,
)


@dataclass(slots=True)
class CategoryList:
    """One list in the making. `past` ends where the next number is to be written.

    A step feeds the last number, the separator and the trunk of the next number, so that one short
    forward tells both whether the list goes on and with which number.
    """

    grammar: AnswerGrammar
    past: tuple[KeyValues, ...]
    written: list[tuple[int, float]] = field(default_factory=list)
    done: bool = False

    @property
    def listed(self) -> tuple[tuple[int, float], ...]:
        """(index, probability) in the order written; a repeated number counts once."""
        first_times: dict[int, float] = {}
        for index, probability in self.written:
            first_times.setdefault(index, probability)
        return tuple(first_times.items())

    @property
    def next_step(self) -> PackedSequence:
        """What to run to learn how the list goes on."""
        return PackedSequence((*self._link, *self.grammar.trunk), self.past)

    @property
    def read_from(self) -> int:
        """First position of the step that decides something: the last number's last token."""
        return len(self._last_number) - 1

    def write(self, nodes: Sequence[Logits], likeliest: Sequence[int] | None = None) -> None:
        """Write the next number, from the logits at the root and along the trunk.

        Raises:
            UnreadableVerdict: if it is none of the grammar's by `likeliest`, or a logit not finite.
        """
        choice = choose_number(self.grammar, nodes, likeliest)
        probability = number_distribution(self.grammar, nodes)[choice.index]
        self.written.append((choice.index, probability))
        full = len(self.written) == len(self.grammar.numbers)
        self.done = full or choice.end in self.grammar.terminators

    def advance(self, run: KeyValues, logits: Sequence[Logits]) -> None:
        """Take the outcome of `next_step`: its keys and values, its logits from `read_from` on."""
        if choose_end(self.grammar, logits[0]) in self.grammar.terminators:
            self.done = True
            return
        self.past = (*self.past, run.between(0, len(self._link)))
        self.write(logits[len(self.grammar.separator) :])

    @property
    def _last_number(self) -> Tokens:
        return self.grammar.numbers[self.written[-1][0]]

    @property
    def _link(self) -> Tokens:
        return (*self._last_number, *self.grammar.separator)
