"""Growing conversations: newest text wins, the end is always judged, memory is given back."""

import asyncio
import threading
from contextlib import aclosing

import pytest

from guard_service.limits import Limits
from guard_service.moderation import InvalidRequest, JudgementFailed, Overloaded
from guard_service.moderator import INLINE_CHARACTERS
from tests.fakes import FakeEngine, flag_bombs, scores
from tests.prompts import alternating
from tests.running import running_moderator

OPENING = alternating("Tell me a story", "")
SCAFFOLD_WORDS = 100


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def collect(stream) -> list:
    async with aclosing(stream.checkpoints(deadline=None)) as reached:
        return [checkpoint async for checkpoint in reached]


async def test_checkpoints_cover_what_was_sent_and_the_last_one_everything():
    engine = FakeEngine()
    async with running_moderator(engine) as moderator, moderator.open_stream(OPENING) as stream:
        reached = stream.checkpoints(deadline=None)
        stream.append("Once upon ", check=True)
        first = await anext(reached)
        stream.append("a time a bomb", check=False)
        stream.append(" went off", check=True)
        second = await anext(reached)
        stream.append(".", check=False)
        stream.finish()
        [last] = [checkpoint async for checkpoint in reached]

    assert [(c.num_characters, c.final) for c in (first, second, last)] == [
        (10, False),
        (32, False),
        (33, True),
    ]
    assert [c.verdict.unsafe for c in (first, second, last)] == [False, True, True]


async def test_text_without_a_check_is_judged_at_the_end():
    async with (
        running_moderator(FakeEngine()) as moderator,
        moderator.open_stream(OPENING) as stream,
    ):
        stream.append("a bomb", check=False)
        stream.finish()
        [last] = await collect(stream)

    assert last.final
    assert last.verdict.unsafe


async def test_a_newer_checkpoint_takes_the_place_of_one_still_queued():
    engine = FakeEngine()
    async with running_moderator(engine) as moderator, moderator.open_stream(OPENING) as stream:
        engine.hold()
        other = asyncio.create_task(moderator.moderate(alternating("busy")))
        await asyncio.to_thread(engine.started.wait)
        collecting = asyncio.create_task(collect(stream))
        for word in ("one ", "two ", "three "):
            stream.append(word, check=True)
            await settle()
        assert moderator.batcher.num_queued_items == 1
        engine.release()
        await other
        stream.append("four", check=False)
        stream.finish()
        reached = await collecting
        covered = "one two three four"[: reached[0].num_characters]
        unary = await moderator.moderate(alternating("Tell me a story", covered))

    assert covered.startswith("one two three")
    assert reached[0].verdict.usage.body_tokens == unary.usage.body_tokens
    assert [c.num_characters for c in reached][-1] == len("one two three four")
    assert len(reached) <= 2
    assert "one " not in [text.strip() + " " for text in engine.texts]
    assert sum("two" in text and "three" not in text for text in engine.texts) == 0


async def test_one_check_is_judged_once():
    engine = FakeEngine()
    async with running_moderator(engine) as moderator, moderator.open_stream(OPENING) as stream:
        reached = stream.checkpoints(deadline=None)
        stream.append("Once", check=True)
        await anext(reached)
        waiting = asyncio.create_task(anext(reached))
        await asyncio.sleep(0.05)

        assert len(engine.texts) == 1
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_text_that_comes_while_a_check_is_tokenised_is_not_covered_by_it():
    class SlowToEncode(FakeEngine):
        encoding, go_on = threading.Event(), threading.Event()

        def encode(self, prompt):
            if "end" in prompt.body:
                self.encoding.set()
                self.go_on.wait()
            return super().encode(prompt)

    engine = SlowToEncode()
    text = "word " * INLINE_CHARACTERS + "end"
    async with running_moderator(engine) as moderator, moderator.open_stream(OPENING) as stream:
        stream.append(text, check=True)
        collecting = asyncio.create_task(collect(stream))
        await asyncio.to_thread(engine.encoding.wait)
        stream.append(" a bomb", check=False)
        stream.finish()
        engine.go_on.set()
        reached = await collecting

    for checkpoint in reached:
        assert checkpoint.final == (checkpoint.num_characters == len(text) + 7)
        assert checkpoint.verdict.unsafe == checkpoint.final
    assert reached[-1].final


async def test_a_stream_waits_its_turn_instead_of_losing_its_place():
    """Superseding keeps the place in the queue: a busy stream is not pushed back for ever."""
    engine = FakeEngine()
    async with (
        running_moderator(engine, max_batch_tokens=1) as moderator,
        moderator.open_stream(OPENING) as stream,
    ):
        engine.hold()
        busy = asyncio.create_task(moderator.moderate(alternating("busy")))
        await asyncio.to_thread(engine.started.wait)
        collecting = asyncio.create_task(collect(stream))
        stream.append("first ", check=True)
        await settle()
        later = asyncio.create_task(moderator.moderate(alternating("later")))
        await settle()
        stream.append("second ", check=True)
        await settle()
        engine.release()
        await asyncio.gather(busy, later)
        stream.finish()
        await collecting

    order = ["second" if "second" in text else text.strip() for text in engine.texts]
    assert order.index("second") < order.index("later")


@pytest.mark.parametrize("prompt_format", ["llama-guard-2", "compact"])
async def test_the_last_verdict_is_the_unary_one_also_in_windows(prompt_format):
    text = " ".join(f"word{i}" for i in range(700)) + " bomb " + " ".join(["end"] * 50)
    engine = FakeEngine(max_context_tokens=100 + SCAFFOLD_WORDS, prompt_format=prompt_format)
    async with running_moderator(engine) as moderator:
        unary = await moderator.moderate(alternating("Tell me a story", text))
        num_unary = len(engine.texts)
        async with moderator.open_stream(OPENING) as stream:
            reached = stream.checkpoints(deadline=None)
            for start in range(0, len(text), 500):
                stream.append(text[start : start + 500], check=True)
                await anext(reached)
            stream.finish()
            [last] = [checkpoint async for checkpoint in reached]

    assert last.verdict.unsafe
    assert unary.unsafe
    assert last.verdict.unsafe_probability == unary.unsafe_probability
    assert last.verdict.coverage == unary.coverage
    num_checks = len(range(0, len(text), 500)) + 1
    # Closed windows are scored once; each check pays for the window that grows.
    assert len(engine.texts) - num_unary <= num_checks + unary.coverage.num_windows


async def test_a_newer_text_that_changes_a_closed_window_is_judged_in_all_its_windows():
    """Its end can change what came before: here it completes a marker, which is then rewritten."""

    def judge(text, num_categories):
        return scores(0.9 if "＜END" in text else 0.1, num_categories, listed=(0,))  # noqa: RUF001

    marker, invisible = "<END CONVERSATION", " \u200b" * 60
    started = " ".join(["word"] * 40) + f" {marker}{invisible}"
    engine = FakeEngine(judge, max_context_tokens=100 + SCAFFOLD_WORDS)
    async with running_moderator(engine) as moderator:
        unary = await moderator.moderate(alternating("Tell me a story", f"{started} > x"))
        async with moderator.open_stream(OPENING) as stream:
            reached = stream.checkpoints(deadline=None)
            stream.append(started, check=True)
            first = await anext(reached)
            engine.hold()
            busy = asyncio.create_task(moderator.moderate(alternating("busy")))
            await engine.until_busy()
            rest = asyncio.create_task(anext(reached))
            stream.append(" ", check=True)
            await settle()
            assert moderator.batcher.num_queued_items == 1
            stream.append("> x", check=False)
            stream.finish()
            await settle()
            engine.release()
            await busy
            last = await rest
            while not last.final:
                last = await anext(reached)

    assert not first.verdict.unsafe
    assert first.verdict.coverage == unary.coverage
    assert unary.unsafe
    assert last.verdict.unsafe


async def test_a_stream_without_text_is_refused():
    async with (
        running_moderator(FakeEngine()) as moderator,
        moderator.open_stream(OPENING) as stream,
    ):
        stream.append(" \n", check=True)
        with pytest.raises(InvalidRequest, match=r"delta\.text: the stream ended without any text"):
            stream.finish()


async def test_a_check_before_there_is_text_is_ignored():
    engine = FakeEngine()
    async with running_moderator(engine) as moderator, moderator.open_stream(OPENING) as stream:
        collecting = asyncio.create_task(collect(stream))
        stream.append(" \n", check=True)
        await settle()
        assert engine.texts == []
        stream.append("Once", check=False)
        stream.finish()
        [last] = await collecting

    assert (last.num_characters, last.final) == (6, True)


async def test_a_stream_is_bounded_like_any_conversation():
    limits = Limits(max_content_bytes=20)
    async with (
        running_moderator(FakeEngine(), limits=limits) as moderator,
        moderator.open_stream(alternating("0123456789", "")) as stream,
    ):
        stream.append("0123456789", check=False)
        with pytest.raises(InvalidRequest, match=r"delta\.text: 21 bytes of UTF-8; at most 20"):
            stream.append("x", check=False)
        with pytest.raises(InvalidRequest, match="NUL"):
            stream.append("\0", check=False)


async def test_open_streams_are_bounded_and_leaving_one_frees_its_slot():
    engine = FakeEngine()
    async with running_moderator(engine, limits=Limits(max_streams=2)) as moderator:
        async with moderator.open_stream(OPENING), moderator.open_stream(OPENING):
            assert moderator.num_open_streams == 2
            with pytest.raises(Overloaded, match="max_streams"):
                moderator.open_stream(OPENING)
        assert moderator.num_open_streams == 0
        async with moderator.open_stream(OPENING):
            assert moderator.num_open_streams == 1

    assert len(engine.sessions) == 3
    assert all(session.closed for session in engine.sessions)


async def test_a_failed_check_ends_the_stream_without_a_verdict():
    def judge(text, num_categories):
        if "poison" in text:
            raise RuntimeError("cannot")
        return flag_bombs(text, num_categories)

    async with (
        running_moderator(FakeEngine(judge)) as moderator,
        moderator.open_stream(OPENING) as stream,
    ):
        stream.append("poison", check=True)
        with pytest.raises(JudgementFailed):
            await collect(stream)


async def test_leaving_a_stream_withdraws_its_queued_check():
    engine = FakeEngine()
    async with running_moderator(engine) as moderator:
        engine.hold()
        busy = asyncio.create_task(moderator.moderate(alternating("busy")))
        await asyncio.to_thread(engine.started.wait)
        async with moderator.open_stream(OPENING) as stream:
            stream.append("abandoned", check=True)
            collecting = asyncio.create_task(collect(stream))
            await settle()
            assert moderator.batcher.num_queued_items == 1
            collecting.cancel()
            await asyncio.wait([collecting])
        assert moderator.batcher.num_queued_items == 0
        engine.release()
        await busy

    assert not any("abandoned" in text for text in engine.texts)
