"""The queue: bounded, in order, deaf to the departed, and no item takes another along."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from guard_service.batcher import Batcher
from guard_service.engine.protocol import Judgement
from guard_service.moderation import (
    DeadlineExceeded,
    JudgementFailed,
    NotReady,
    Overloaded,
    UnreadableVerdict,
)
from guard_service.observer import Drop, NullObserver
from guard_service.prompt_formats.prompt import Prompt
from tests.fakes import FakeEngine, flag_bombs, scores

SOON = 30.0


class Tally(NullObserver):
    """Counts what was dropped, and keeps the batches."""

    def __init__(self) -> None:
        self.drops: list[Drop] = []
        self.batches: list[tuple[int, int]] = []

    def dropped(self, reason: Drop) -> None:
        self.drops.append(reason)

    def batch_scored(self, *, num_items: int, num_tokens: int, seconds: float) -> None:
        del seconds
        self.batches.append((num_items, num_tokens))


def judgement(engine: FakeEngine, text: str) -> Judgement:
    return Judgement(engine.encode(Prompt(("prefix",), text, ("end",))), 3, 0.5)


@asynccontextmanager
async def running(engine: FakeEngine, tally: Tally, **bounds: int) -> AsyncIterator[Batcher]:
    sizes = {"max_batch_tokens": 20, "max_queue_items": 50, "max_queue_tokens": 500} | bounds
    batcher = Batcher(engine, observer=tally, **sizes)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        engine.release()
        task.cancel()


async def submit(batcher: Batcher, engine: FakeEngine, text: str, seconds: float = SOON):
    return await batcher.submit(judgement(engine, text), deadline=time.monotonic() + seconds)


async def occupy(batcher: Batcher, engine: FakeEngine) -> asyncio.Task:
    """Put one item inside the engine, where it stays until released."""
    engine.hold()
    task = asyncio.create_task(submit(batcher, engine, "first"))
    await asyncio.to_thread(engine.started.wait)
    return task


async def test_what_queues_while_the_engine_is_busy_is_the_next_batch():
    engine, tally = FakeEngine(), Tally()
    async with running(engine, tally) as batcher:
        first = await occupy(batcher, engine)
        others = [asyncio.create_task(submit(batcher, engine, f"text {i}")) for i in range(5)]
        await asyncio.sleep(0.01)
        assert batcher.num_queued_items == 5
        engine.release()
        await asyncio.gather(first, *others)

    assert engine.journal == [["first"], [f"text {i}" for i in range(5)]]
    assert tally.batches == [(1, 2), (5, 15)]
    assert tally.drops == []


async def test_a_batch_stays_within_its_tokens_and_a_longer_item_runs_alone():
    engine, tally = FakeEngine(), Tally()
    long = " ".join(["word"] * 40)
    async with running(engine, tally, max_batch_tokens=10) as batcher:
        first = await occupy(batcher, engine)
        texts = ["a b c", "d e f", "g h i", long, "j"]
        others = [asyncio.create_task(submit(batcher, engine, text)) for text in texts]
        await asyncio.sleep(0.01)
        engine.release()
        await asyncio.gather(first, *others)

    assert engine.journal == [["first"], ["a b c", "d e f"], ["g h i"], [long], ["j"]]


async def test_results_reach_those_who_asked():
    engine = FakeEngine(lambda text, n: scores(float(text) / 1000, n))
    async with running(engine, Tally()) as batcher:
        answers = await asyncio.gather(*(submit(batcher, engine, str(i)) for i in range(50)))

    assert [a.scores.unsafe_probability * 1000 for a in answers] == pytest.approx(range(50))


@pytest.mark.parametrize(
    "bound", [{"max_queue_items": 2}, {"max_queue_tokens": 6}], ids=["items", "tokens"]
)
async def test_a_full_queue_refuses_new_work_and_says_when_to_come_back(bound):
    engine, tally = FakeEngine(), Tally()
    async with running(engine, tally, **bound) as batcher:
        first = await occupy(batcher, engine)
        queued = [asyncio.create_task(submit(batcher, engine, f"text {i}")) for i in range(2)]
        await asyncio.sleep(0.01)

        with pytest.raises(Overloaded, match=next(iter(bound))) as refusal:
            await submit(batcher, engine, "one more")

        assert refusal.value.retry_after_seconds >= 1.0
        engine.release()
        await asyncio.gather(first, *queued)
        await submit(batcher, engine, "later")

    assert tally.drops == [Drop.SHED]
    assert "one more" not in engine.texts


async def test_an_item_above_the_token_bound_is_taken_when_nobody_waits():
    engine = FakeEngine()
    async with running(engine, Tally(), max_queue_tokens=3) as batcher:
        await submit(batcher, engine, "far more words than the queue may hold")

    assert len(engine.texts) == 1


async def test_nor_is_it_refused_behind_a_busy_engine_alone():
    engine = FakeEngine()
    async with running(engine, Tally(), max_queue_tokens=3) as batcher:
        first = await occupy(batcher, engine)
        long = asyncio.create_task(submit(batcher, engine, "more words than the queue may hold"))
        await asyncio.sleep(0.01)
        engine.release()
        await asyncio.gather(first, long)

    assert len(engine.texts) == 2


async def test_what_would_expire_in_the_queue_is_refused_at_the_door():
    engine, tally = FakeEngine(), Tally()
    async with running(engine, tally) as batcher:
        first = await occupy(batcher, engine)
        batcher._tokens_per_second = 10.0
        patient = asyncio.create_task(submit(batcher, engine, "a b c d e f g h i j"))
        await asyncio.sleep(0.01)

        with pytest.raises(Overloaded, match=r"1\.[0-9] s, past the deadline") as refusal:
            await submit(batcher, engine, "hasty", seconds=1.0)

        assert refusal.value.retry_after_seconds == pytest.approx(1.1)
        engine.release()
        await asyncio.gather(first, patient)

    assert tally.drops == [Drop.SHED]
    assert "hasty" not in engine.texts


def idle_batcher(engine: FakeEngine) -> Batcher:
    """One that feeds nobody until a test takes a batch out of it."""
    return Batcher(
        engine,
        max_batch_tokens=1000,
        max_queue_items=50,
        max_queue_tokens=1000,
        observer=Tally(),
    )


async def test_a_batch_does_not_grow_past_the_deadline_of_anyone_in_it():
    engine = FakeEngine()
    batcher = idle_batcher(engine)
    batcher._tokens_per_second = 1.0
    now = time.monotonic()
    hurried = batcher.enqueue(judgement(engine, "a b"), deadline=now + 60)
    short = batcher.enqueue(judgement(engine, "c"), deadline=now + 600)
    long = batcher.enqueue(judgement(engine, "word " * 58), deadline=now + 600)

    assert batcher._next_batch() == [hurried, short]
    assert batcher._next_batch() == [long]


async def test_expired_work_keeps_no_one_out_of_the_batch():
    engine = FakeEngine()
    batcher = idle_batcher(engine)
    now = time.monotonic()
    batcher.enqueue(judgement(engine, "expired"), deadline=now)
    others = [batcher.enqueue(judgement(engine, text), deadline=now + 600) for text in "ab"]

    assert batcher._next_batch() == others
    assert (batcher.num_queued_items, batcher.num_queued_tokens) == (0, 0)


async def test_an_idle_engine_takes_even_what_seems_too_long():
    engine = FakeEngine()
    async with running(engine, Tally()) as batcher:
        batcher._tokens_per_second = 0.001
        await submit(batcher, engine, "a b c", seconds=5.0)

    assert engine.texts == ["a b c"]


async def test_expired_work_never_reaches_the_engine():
    engine, tally = FakeEngine(), Tally()
    async with running(engine, tally) as batcher:
        first = await occupy(batcher, engine)
        for i in range(3):
            with pytest.raises(DeadlineExceeded):
                await submit(batcher, engine, f"late {i}", seconds=0.1)
        assert (batcher.num_queued_items, batcher.num_queued_tokens) == (0, 0)
        engine.release()
        await first
        await submit(batcher, engine, "in time")

    assert engine.texts == ["first", "in time"]
    assert tally.drops == [Drop.EXPIRED] * 3


async def test_work_whose_caller_has_gone_never_reaches_the_engine():
    engine, tally = FakeEngine(), Tally()
    async with running(engine, tally) as batcher:
        first = await occupy(batcher, engine)
        gone = asyncio.create_task(submit(batcher, engine, "gone"))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.wait([gone])
        assert (batcher.num_queued_items, batcher.num_queued_tokens) == (0, 0)
        engine.release()
        await first
        await submit(batcher, engine, "here")

    assert engine.texts == ["first", "here"]
    assert tally.drops == [Drop.CANCELLED]


def fail_on_poison(text: str, num_categories: int):
    if "poison" in text:
        raise RuntimeError(f"cannot judge {text}")
    return flag_bombs(text, num_categories)


async def test_a_poisoned_batch_loses_only_the_poisoned_item():
    engine, tally = FakeEngine(fail_on_poison), Tally()
    async with running(engine, tally) as batcher:
        first = await occupy(batcher, engine)
        texts = ["fine", "poison", "bomb"]
        others = [asyncio.create_task(submit(batcher, engine, text)) for text in texts]
        await asyncio.sleep(0.01)
        engine.release()
        await first
        fine, poisoned, bomb = await asyncio.gather(*others, return_exceptions=True)

    assert fine.scores.unsafe_probability == 0.1
    assert bomb.scores.unsafe_probability == 0.9
    assert isinstance(poisoned, JudgementFailed)
    assert "poison" not in str(poisoned)
    assert tally.drops == [Drop.FAILED]
    assert engine.texts.count("poison") == 2


async def test_an_item_the_engine_cannot_read_fails_alone_and_is_not_tried_again():
    def judge(text, num_categories):
        return (
            UnreadableVerdict("no verdict") if "odd" in text else flag_bombs(text, num_categories)
        )

    engine, tally = FakeEngine(judge), Tally()
    async with running(engine, tally) as batcher:
        odd, fine = await asyncio.gather(
            submit(batcher, engine, "odd"), submit(batcher, engine, "fine"), return_exceptions=True
        )

    assert isinstance(odd, UnreadableVerdict)
    assert fine.scores.unsafe_probability == 0.1
    assert engine.texts.count("odd") == 1


async def test_a_batch_is_tried_again_without_those_who_have_gone():
    engine = FakeEngine(fail_on_poison)
    async with running(engine, Tally()) as batcher:
        engine.hold()
        poisoned = asyncio.create_task(submit(batcher, engine, "poison"))
        gone = asyncio.create_task(submit(batcher, engine, "gone"))
        await engine.until_busy()
        gone.cancel()
        await asyncio.wait([gone])
        engine.release()
        await asyncio.wait([poisoned])
        await batcher.drain()

    assert engine.journal == [["poison", "gone"], ["poison"]]


async def test_an_engine_that_loses_count_gives_no_verdict():
    class Forgetful(FakeEngine):
        def score(self, batch):
            return super().score(batch)[1:]

    engine = Forgetful()
    async with running(engine, Tally()) as batcher:
        results = await asyncio.gather(
            submit(batcher, engine, "text"),
            submit(batcher, engine, "bomb"),
            return_exceptions=True,
        )

    assert [type(result) for result in results] == [JudgementFailed, JudgementFailed]


async def test_draining_finishes_what_was_accepted_and_refuses_the_rest():
    engine = FakeEngine()
    async with running(engine, Tally(), max_batch_tokens=4) as batcher:
        first = await occupy(batcher, engine)
        accepted = [asyncio.create_task(submit(batcher, engine, f"text {i}")) for i in range(10)]
        await asyncio.sleep(0.01)
        drained = asyncio.create_task(batcher.drain())
        await asyncio.sleep(0.01)

        with pytest.raises(NotReady, match="draining"):
            await submit(batcher, engine, "too late")
        assert not drained.done()
        engine.release()
        await drained

        assert all(task.done() for task in [first, *accepted])
        await asyncio.gather(first, *accepted)


async def test_a_queued_ticket_can_be_replaced_and_a_started_one_cannot():
    engine = FakeEngine()
    async with running(engine, Tally()) as batcher:
        first = await occupy(batcher, engine)
        deadline = time.monotonic() + SOON
        ticket = batcher.enqueue(judgement(engine, "old"), deadline=deadline)

        assert batcher.replace(ticket, judgement(engine, "new and longer"))
        assert batcher.num_queued_tokens == 4
        engine.hold()
        engine.release()
        await first
        await batcher.wait(ticket)

        assert not batcher.replace(ticket, judgement(engine, "newest"))
    assert engine.texts == ["first", "new and longer"]


async def test_a_ticket_inside_the_engine_cannot_be_replaced():
    """Its scores would be taken for those of a text that nobody judged."""
    engine = FakeEngine()
    async with running(engine, Tally()) as batcher:
        engine.hold()
        ticket = batcher.enqueue(judgement(engine, "old"), deadline=time.monotonic() + SOON)
        await engine.until_busy()

        assert not batcher.replace(ticket, judgement(engine, "new"))
        engine.release()
        await batcher.wait(ticket)


async def test_what_expired_inside_the_engine_is_counted_once_though_it_fails_there():
    engine, tally = FakeEngine(fail_on_poison), Tally()
    async with running(engine, tally) as batcher:
        engine.hold()
        with pytest.raises(DeadlineExceeded):
            await submit(batcher, engine, "poison", seconds=0.2)
        engine.release()
        await batcher.drain()

    assert tally.drops == [Drop.EXPIRED]


async def test_progress_is_only_missed_while_there_is_work():
    engine = FakeEngine()
    async with running(engine, Tally()) as batcher:
        await asyncio.sleep(0.05)
        assert batcher.seconds_since_progress == 0.0
        first = await occupy(batcher, engine)
        await asyncio.sleep(0.05)
        assert batcher.seconds_since_progress >= 0.05
        engine.release()
        await first
        await asyncio.sleep(0.01)
        assert batcher.seconds_since_progress == 0.0
