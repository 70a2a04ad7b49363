"""Forwards hold every example once, behind one prefix, within a bounded size."""

import random
from collections import Counter

import numpy as np
import pytest

from guard_service.tuning.examples import Example
from guard_service.tuning.forwards import IGNORED, WIDTH_MULTIPLE, gather

MAX_TOKENS = 512
PREFIXES = ((1, 2), (1, 3), (4,))


def examples(number: int, seed: int = 0) -> list[Example]:
    """Each asks something else."""
    rng = random.Random(seed)
    return [
        Example(
            prefix=rng.choice(PREFIXES),
            question=np.array([100 + index, *range(rng.randrange(90))], dtype=np.int32),
            answer=(7,) if index % 2 else (8, 9, 10),
            unsafe=bool(index % 2),
        )
        for index in range(number)
    ]


def gathered(given: list[Example], seed: int = 1):
    return gather(given, max_tokens=MAX_TOKENS, random_=random.Random(seed))


EXAMPLES = examples(500)
FORWARDS = gathered(EXAMPLES)


def rows_of(forward):
    for ids, labels, length, unsafe in zip(
        forward.ids, forward.labels, forward.lengths, forward.unsafe, strict=True
    ):
        taught = labels != IGNORED
        yield forward.prefix, tuple(ids[:length]), tuple(labels[taught]), unsafe


def test_each_example_stands_in_one_forward_once():
    wanted = Counter(
        (each.prefix, (*each.question, *each.answer), each.answer, each.unsafe) for each in EXAMPLES
    )

    assert Counter(row for forward in FORWARDS for row in rows_of(forward)) == wanted


def test_answers_are_taught_where_they_stand():
    for forward in FORWARDS:
        taught = forward.labels != IGNORED
        assert (forward.ids[taught] == forward.labels[taught]).all()
        ends = taught.shape[1] - taught[:, ::-1].argmax(axis=1)
        assert (ends == forward.lengths).all()


def test_forwards_are_of_bounded_size_and_few_widths():
    for forward in FORWARDS:
        assert forward.ids.size <= MAX_TOKENS
        assert forward.ids.shape[1] % WIDTH_MULTIPLE == 0
        assert forward.ids.shape[1] - forward.lengths.max() < WIDTH_MULTIPLE


def test_little_is_padding():
    padded = sum(forward.ids.size for forward in FORWARDS)

    assert sum(each.num_tokens for each in EXAMPLES) > 0.75 * padded


def test_an_example_longer_than_a_forward_has_one_of_its_own():
    long = Example((1,), np.arange(600, dtype=np.int32), (7,), unsafe=True)
    [forward] = gathered([long])

    assert forward.ids.shape == (1, 608)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides_the_order(seed):
    again = gathered(EXAMPLES, seed)
    same = [
        left.ids.shape == right.ids.shape and bool((left.ids == right.ids).all())
        for left, right in zip(FORWARDS, again, strict=False)
    ]

    assert all(same) == (seed == 1)
