"""The output head, evaluated at few positions and, where that is enough, for few tokens."""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import linear

from guard_service.engine.answer import AnswerGrammar, VerdictWords
from guard_service.engine.reading import Logits, VerdictReading


class Head:
    """Reads logits off final hidden states.

    The verdict and the first category are held against the whole vocabulary, because an answer that
    is neither must be noticed. Choosing among categories needs only the rows of their own tokens.
    """

    def __init__(self, weight: Tensor, words: VerdictWords) -> None:
        """`weight` is the head's matrix, [vocabulary, hidden_size]."""
        self._weight = weight
        self._words = words
        self._category_ids: list[int] = []
        self._category_rows = weight[:0]

    def learn(self, grammar: AnswerGrammar) -> None:
        """Keep the rows that reading lists of this grammar needs at hand."""
        number_ids = {token for number in grammar.numbers for token in number}
        self._category_ids = sorted({*self._category_ids, *number_ids, *grammar.ends})
        self._category_rows = self._weight[self._category_ids].contiguous()

    def verdicts(self, tails: Sequence[Tensor]) -> list[VerdictReading]:
        """One reading per tail: hidden states [positions, hidden_size] from the verdict on."""
        num_positions = len(self._words.unsafe_word)
        hidden = torch.cat([tail[:num_positions] for tail in tails])
        # The matrix first: with few positions this takes up to half the time of `linear`.
        logits = (self._weight @ hidden.T).float()
        ids = [*self._words.safe, *self._words.unsafe]
        rows: list[list[float]] = logits[ids, ::num_positions].T.tolist()
        likeliest: list[list[int]] = logits.argmax(dim=0).view(-1, num_positions).tolist()
        return [
            VerdictReading(dict(zip(ids, row, strict=True)), tuple(tokens))
            for row, tokens in zip(rows, likeliest, strict=True)
        ]

    def likeliest(self, hidden: Sequence[Tensor]) -> list[list[int]]:
        """The most probable token of the whole vocabulary at each of [positions, hidden_size]."""
        if not hidden:
            return []
        tokens = iter((self._weight @ torch.cat(list(hidden)).T).argmax(dim=0).tolist())
        return [list(islice(tokens, len(positions))) for positions in hidden]

    def categories(self, hidden: Sequence[Tensor]) -> list[list[Logits]]:
        """Logits of the category tokens; each tensor is [positions, hidden_size]."""
        if not hidden:
            return []
        rows: list[list[float]] = linear(torch.cat(list(hidden)), self._category_rows).tolist()
        logits = iter([dict(zip(self._category_ids, row, strict=True)) for row in rows])
        return [list(islice(logits, len(positions))) for positions in hidden]
