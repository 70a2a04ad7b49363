"""Labelled rows as training examples, rendered and tokenised by the code that serves."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guard_service.engine.vocabulary import Vocabulary
from guard_service.evaluation.rows import Row
from guard_service.moderation import Message, Phase
from guard_service.policy import Policy
from guard_service.prompt_formats import PromptFormat

Ids = NDArray[np.int32]

_NUM_TOKENISERS = 16
_CHUNK_ROWS = 512


@dataclass(frozen=True, slots=True)
class Question:
    """A row, and the tokens asked of it: conversation and suffix, without the policy prompt."""

    row: Row
    tokens: Ids


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn: after `prefix` and `question` the guard says `answer`."""

    prefix: tuple[int, ...]
    question: Ids
    answer: tuple[int, ...]
    unsafe: bool

    @property
    def num_tokens(self) -> int:
        """What the example adds to a forward: all but the prefix."""
        return len(self.question) + len(self.answer)


class ExampleWriter:
    """Writes rows in one prompt format and vocabulary, for policies drawn from `policy`.

    `end_token` closes an answer.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        prompt_format: PromptFormat,
        policy: Policy,
        *,
        end_token: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._format = prompt_format
        self._policy = policy
        self._end_token = end_token
        self._prefixes: dict[tuple[str, Phase, Phase], tuple[int, ...]] = {}

    def questions(self, rows: Sequence[Row]) -> list[Question]:
        """What is asked of each row, whichever categories the policy has."""
        chunks = [rows[i : i + _CHUNK_ROWS] for i in range(0, len(rows), _CHUNK_ROWS)]
        with ThreadPoolExecutor(_NUM_TOKENISERS) as pool:
            return [question for part in pool.map(self._questions, chunks) for question in part]

    def example(self, question: Question, policy: Policy | None = None) -> Example | None:
        """The example of a row, by the writer's policy or a variant of it.

        A row whose categories the variant leaves out is safe by it. None where that is not known.
        """
        policy, row = policy or self._policy, question.row
        numbers = [
            number
            for number, category in enumerate(policy.categories, start=1)
            if row.unsafe and category.code in (row.categories or ())
        ]
        if (
            row.unsafe
            and not row.categories
            and len(policy.categories) < len(self._policy.categories)
        ):
            return None
        unsafe = bool(numbers) if row.categories else row.unsafe
        answer = self._answer(unsafe=unsafe, numbers=numbers)
        return Example(self._prefix(row, policy), question.tokens, answer, unsafe)

    def _questions(self, rows: Sequence[Row]) -> list[Question]:
        encode, render = self._vocabulary.encode, self._format.render
        segments = [encode(render(row.conversation, self._policy)) for row in rows]
        return [
            Question(row, np.array(each.body + each.suffix, dtype=np.int32))
            for row, each in zip(rows, segments, strict=True)
        ]

    def _prefix(self, row: Row, policy: Policy) -> tuple[int, ...]:
        first, last = row.messages[0].role, row.messages[-1].role
        key = (policy.digest, Phase.of(first), Phase.of(last))
        if key not in self._prefixes:
            shortest = (Message(first, "a"), Message(last, "b"))
            self._prefixes[key] = self._vocabulary.encode(
                self._format.render(shortest, policy)
            ).prefix
        return self._prefixes[key]

    def _answer(self, *, unsafe: bool, numbers: Sequence[int]) -> tuple[int, ...]:
        """What the guard should say; after an unsafe of unknown categories nothing is taught."""
        if not unsafe:
            return (*self._vocabulary.encode_text("safe"), self._end_token)
        if not numbers:
            return tuple(self._vocabulary.encode_text("unsafe"))
        codes = ",".join(f"{self._format.code_letter}{number}" for number in numbers)
        return (*self._vocabulary.encode_text(f"unsafe\n{codes}"), self._end_token)
