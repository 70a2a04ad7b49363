"""Hold the service's verdicts against the reference: alone, in random batches, and streamed."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import pairwise

from guard_service.moderation import Conversation, Verdict
from guard_service.moderator import Moderator
from guard_service.stream import Checkpoint
from tests.reference import Reference, ReferenceVerdict

MAX_PROBABILITY_DIFFERENCE = 1e-4
MAX_TOGETHER = 16
MAX_PIECES = 4

Tick = Callable[[], None]
"""Called after every verdict, to show progress."""


@dataclass(slots=True)
class Comparison:
    """How far one way of asking strays from the verdicts it is held against."""

    num_verdicts: int = 0
    max_probability_difference: float = 0.0
    num_verdict_mismatches: int = 0
    num_list_mismatches: int = 0

    def add(self, expected: ReferenceVerdict, verdict: Verdict) -> None:
        difference = abs(expected.unsafe_probability - verdict.unsafe_probability)
        self.num_verdicts += 1
        self.max_probability_difference = max(self.max_probability_difference, difference)
        self.num_verdict_mismatches += expected.unsafe != verdict.unsafe
        self.num_list_mismatches += expected.codes != codes_of(verdict)

    @property
    def equal(self) -> bool:
        return (
            self.max_probability_difference <= MAX_PROBABILITY_DIFFERENCE
            and self.num_verdict_mismatches == 0
            and self.num_list_mismatches == 0
        )


@dataclass(frozen=True, slots=True)
class Equality:
    """The outcome for one model; `checkpoints` are held against the unary verdict of their text."""

    alone: Comparison = field(default_factory=Comparison)
    batched: Comparison = field(default_factory=Comparison)
    streamed: Comparison = field(default_factory=Comparison)
    checkpoints: Comparison = field(default_factory=Comparison)


def codes_of(verdict: Verdict) -> tuple[str, ...]:
    return tuple(category.code for category in verdict.categories)


def as_expected(verdict: Verdict) -> ReferenceVerdict:
    """One of the service's own verdicts, to hold another against."""
    return ReferenceVerdict(verdict.unsafe, verdict.unsafe_probability, codes_of(verdict), "")


def expectations(
    reference: Reference, conversations: Sequence[Conversation], tick: Tick = lambda: None
) -> list[ReferenceVerdict]:
    expected = []
    for conversation in conversations:
        expected.append(reference.judge(conversation))
        tick()
    return expected


async def compare(
    moderator: Moderator,
    conversations: Sequence[Conversation],
    expected: Sequence[ReferenceVerdict],
    *,
    seed: int,
    max_pieces: int = MAX_PIECES,
    tick: Tick = lambda: None,
) -> Equality:
    """Ask for every conversation in each way and note the differences.

    Streams come in at most `max_pieces` pieces, with a checkpoint after each.
    """
    rng = random.Random(seed)
    equality = Equality()
    for conversation, each in zip(conversations, expected, strict=True):
        equality.alone.add(each, await moderator.moderate(conversation))
        tick()
    for group in _random_groups(range(len(conversations)), rng):
        verdicts = await asyncio.gather(*(moderator.moderate(conversations[i]) for i in group))
        for i, verdict in zip(group, verdicts, strict=True):
            equality.batched.add(expected[i], verdict)
            tick()
    for group in _random_groups(range(len(conversations)), rng):
        pieces = [_random_pieces(conversations[i][-1].content, max_pieces, rng) for i in group]
        await asyncio.gather(
            *(
                _compare_stream(moderator, conversations[i], each, expected[i], equality)
                for i, each in zip(group, pieces, strict=True)
            )
        )
        for _ in group:
            tick()
    return equality


async def _compare_stream(
    moderator: Moderator,
    conversation: Conversation,
    pieces: Sequence[str],
    expected: ReferenceVerdict,
    equality: Equality,
) -> None:
    async with aclosing(checkpoints(moderator, conversation, pieces)) as reached:
        async for checkpoint in reached:
            if checkpoint.final:
                equality.streamed.add(expected, checkpoint.verdict)
                continue
            so_far = conversation[-1].content[: checkpoint.num_characters]
            unary = await moderator.moderate(
                (*conversation[:-1], replace(conversation[-1], content=so_far))
            )
            equality.checkpoints.add(as_expected(unary), checkpoint.verdict)


async def checkpoints(
    moderator: Moderator, conversation: Conversation, pieces: Sequence[str]
) -> AsyncGenerator[Checkpoint, None]:
    """Stream the last message in these pieces, waiting for a checkpoint after each."""
    *history, growing = conversation
    async with moderator.open_stream((*history, replace(growing, content=""))) as stream:
        reached = stream.checkpoints(deadline=None)
        text = ""
        for piece in pieces[:-1]:
            text += piece
            stream.append(piece, check=True)
            if text.strip():
                yield await anext(reached)
        stream.append(pieces[-1], check=False)
        stream.finish()
        async for checkpoint in reached:
            yield checkpoint


def _random_groups(indices: Sequence[int], rng: random.Random) -> list[list[int]]:
    """All indices in random order, cut into groups of random size."""
    shuffled = rng.sample(indices, len(indices))
    groups = []
    while shuffled:
        size = rng.randint(1, MAX_TOGETHER)
        groups.append(shuffled[:size])
        del shuffled[:size]
    return groups


def _random_pieces(text: str, max_pieces: int, rng: random.Random) -> list[str]:
    num_cuts = min(rng.randint(0, max_pieces - 1), len(text) - 1)
    cuts = sorted(rng.sample(range(1, len(text)), num_cuts)) if num_cuts > 0 else []
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
