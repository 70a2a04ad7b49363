"""Examples gathered into forwards: one shared prefix, similar lengths, a bounded size."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from guard_service.tuning.examples import Example, Ids

WIDTH_MULTIPLE = 16
"""Widths are rounded up to this, so that a CPU meets few shapes and builds few kernels."""

_POOL_FORWARDS = 32
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Forward:
    """Examples behind one prefix, as arrays of [examples, width].

    `ids` are right-padded; `labels` hold the answers where they stand and `IGNORED` elsewhere;
    `lengths` counts the ids of each row that are no padding.
    """

    prefix: tuple[int, ...]
    ids: Ids
    labels: Ids
    lengths: Ids
    unsafe: tuple[bool, ...]


def gather(
    examples: Sequence[Example], *, max_tokens: int, random_: random.Random
) -> list[Forward]:
    """All examples, each once, in forwards of at most `max_tokens` padded tokens, shuffled."""
    shuffled = random_.sample(examples, len(examples))
    shuffled.sort(key=lambda example: example.prefix)
    forwards = [
        _forward(batch)
        for _, alike in groupby(shuffled, key=lambda example: example.prefix)
        for batch in _batches(list(alike), max_tokens)
    ]
    random_.shuffle(forwards)
    return forwards


def _batches(examples: Sequence[Example], max_tokens: int) -> Iterator[list[Example]]:
    """Cut pools sorted by length, so that a forward's rows are alike and its neighbours are not."""
    mean = sum(each.num_tokens for each in examples) / len(examples)
    pool_size = max(1, round(_POOL_FORWARDS * max_tokens / mean))
    for start in range(0, len(examples), pool_size):
        pool = sorted(examples[start : start + pool_size], key=lambda each: each.num_tokens)
        batch: list[Example] = []
        for example in pool:
            if batch and (len(batch) + 1) * _width(example) > max_tokens:
                yield batch
                batch = []
            batch.append(example)
        yield batch


def _width(example: Example) -> int:
    return -(-example.num_tokens // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def _forward(batch: Sequence[Example]) -> Forward:
    shape = (len(batch), max(map(_width, batch)))
    ids, labels = np.zeros(shape, dtype=np.int32), np.full(shape, IGNORED, dtype=np.int32)
    for row, example in enumerate(batch):
        start, stop = len(example.question), example.num_tokens
        ids[row, :start], ids[row, start:stop] = example.question, example.answer
        labels[row, start:stop] = example.answer
    return Forward(
        prefix=batch[0].prefix,
        ids=ids,
        labels=labels,
        lengths=np.array([each.num_tokens for each in batch], dtype=np.int32),
        unsafe=tuple(each.unsafe for each in batch),
    )
