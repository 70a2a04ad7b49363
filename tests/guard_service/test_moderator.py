"""From a conversation to a verdict: validation, windows, the worst one, deadlines."""

import asyncio
import time

import pytest

from guard_service.limits import Limits
from guard_service.moderation import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    Message,
    Phase,
    Role,
    UnreadableVerdict,
)
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from guard_service.windows import MIN_ROOM
from tests.fakes import FakeEngine, scores
from tests.prompts import alternating, said
from tests.running import running_moderator

SMALL_LIMITS = Limits(max_messages=3, max_content_bytes=40)


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ((), r"conversation.messages: at least one message"),
        (alternating("a", "b", "c", "d"), r"conversation.messages: 4 messages; at most 3"),
        (alternating("a", ""), r"conversation.messages\[1\].content: must not be empty or blank"),
        (alternating(" \n\t\u2003"), r"conversation.messages\[0\].content: must not be empty"),
        (alternating("a\0b"), r"conversation.messages\[0\].content: must not contain NUL"),
        (alternating("a\ud800"), r"conversation.messages\[0\].content: .* lone surrogates"),
        (alternating("é" * 21), r"conversation.messages: 42 bytes of UTF-8; at most 40"),
    ],
)
async def test_what_cannot_be_judged_is_refused_by_field_and_limit(conversation, message):
    engine = FakeEngine()
    async with running_moderator(engine, limits=SMALL_LIMITS) as moderator:
        with pytest.raises(InvalidRequest, match=message):
            await moderator.moderate(conversation)

    assert engine.journal == []


async def test_the_largest_allowed_conversation_is_judged():
    async with running_moderator(FakeEngine(), limits=SMALL_LIMITS) as moderator:
        verdict = await moderator.moderate(alternating("é" * 18, "ab", "cd"))

    assert not verdict.unsafe


async def test_an_unknown_policy_is_refused_and_the_known_ones_named():
    async with running_moderator(FakeEngine()) as moderator:
        with pytest.raises(InvalidRequest, match=r"policy_id: .* there are: llama-guard-2"):
            await moderator.moderate(alternating("hi"), policy_id="none")


@pytest.mark.parametrize(
    ("role", "phase"),
    [
        ("user", Phase.PROMPT),
        ("assistant", Phase.RESPONSE),
        ("system", Phase.PROMPT),
        ("tool", Phase.PROMPT),
    ],
)
async def test_the_last_turn_decides_what_is_judged(role, phase):
    async with running_moderator(FakeEngine()) as moderator:
        verdict = await moderator.moderate(said(("user", "hi"), (role, "there")))

    assert verdict.phase is phase


async def test_a_verdict_says_who_judged_by_what_and_at_what_cost():
    async with running_moderator(FakeEngine()) as moderator:
        verdict = await moderator.moderate(alternating("where is the bomb now"))
        policy = moderator.policy("")

    assert verdict.unsafe
    assert [(c.code, c.name) for c in verdict.categories] == [("S1", "Violent Crimes")]
    assert sum(c.probability for c in verdict.first_category) == pytest.approx(1.0)
    assert verdict.model.id == "fake"
    assert (verdict.policy_id, verdict.policy_digest) == (policy.id, policy.digest)
    assert verdict.usage.body_tokens == 6
    assert verdict.usage.prompt_tokens > verdict.usage.body_tokens
    timings = verdict.timings
    assert timings.total_seconds >= timings.queue_seconds + timings.inference_seconds


def long_answer(at: int, length: int = 900) -> str:
    words = [f"w{i}" for i in range(length)]
    words[at] = "bomb"
    return " ".join(words)


SCAFFOLD_WORDS = 100  # more than the fake engine sees in the prompt around a conversation


@pytest.mark.parametrize("at", [0, 89, 90, 91, 449, 700, 899])
@pytest.mark.parametrize("prompt_format", ["llama-guard-2", "compact"])
async def test_the_worst_window_decides_wherever_it_is(at, prompt_format):
    engine = FakeEngine(max_context_tokens=100 + SCAFFOLD_WORDS, prompt_format=prompt_format)
    async with running_moderator(engine) as moderator:
        verdict = await moderator.moderate(alternating("tell me", long_answer(at)))

    assert verdict.unsafe
    assert verdict.coverage.num_windows > 5
    assert verdict.coverage.share == 1.0


async def test_a_long_safe_text_is_safe_only_with_every_window():
    engine = FakeEngine(max_context_tokens=100 + SCAFFOLD_WORDS)
    async with running_moderator(engine) as moderator:
        verdict = await moderator.moderate(alternating("tell me", " ".join(["word"] * 900)))

    assert not verdict.unsafe
    assert verdict.coverage.num_windows == len(engine.texts)


async def test_one_window_without_a_verdict_leaves_the_text_unjudged():
    def judge(text, num_categories):
        return UnreadableVerdict("no verdict") if "bomb" in text else scores(0.0, num_categories)

    engine = FakeEngine(judge, max_context_tokens=100 + SCAFFOLD_WORDS)
    async with running_moderator(engine) as moderator:
        with pytest.raises(UnreadableVerdict):
            await moderator.moderate(alternating("tell me", long_answer(800)))


async def test_more_windows_than_allowed_are_refused():
    engine = FakeEngine(max_context_tokens=100 + SCAFFOLD_WORDS)
    async with running_moderator(engine, limits=Limits(max_windows=3)) as moderator:
        with pytest.raises(InvalidRequest, match=r"need \d+ windows of \d+ tokens; at most 3"):
            await moderator.moderate(alternating("tell me", long_answer(1)))

    assert engine.journal == []


def engine_with_room(prompt_format: str, room: int) -> FakeEngine:
    """One whose context holds the scaffold of the format's policy, and `room` words."""
    prompt = FORMATS[prompt_format].render(alternating("Hi"), default_policy(prompt_format))
    segments = FakeEngine().encode(prompt)
    scaffold = len(segments.prefix) + len(segments.suffix)
    return FakeEngine(max_context_tokens=scaffold + room, prompt_format=prompt_format)


@pytest.mark.parametrize("room", [-100, 0, 8, 63])
@pytest.mark.parametrize("prompt_format", ["llama-guard-2", "compact"])
async def test_a_policy_that_leaves_no_room_for_text_is_refused_at_the_start(prompt_format, room):
    engine = engine_with_room(prompt_format, room)

    with pytest.raises(
        ConfigurationError, match=rf"llama-guard-2': .* leaves {room} of \d+ tokens"
    ):
        async with running_moderator(engine):
            pass


@pytest.mark.parametrize("prompt_format", ["llama-guard-2", "compact"])
async def test_the_smallest_room_is_enough_for_any_text(prompt_format):
    engine = engine_with_room(prompt_format, MIN_ROOM)
    async with running_moderator(engine, limits=Limits(max_windows=100)) as moderator:
        verdict = await moderator.moderate(alternating(*["a b c"] * 50, long_answer(899)))

    assert verdict.unsafe


@pytest.mark.parametrize("listed", [(), (11,), (-1,)])
async def test_scores_outside_the_policy_are_an_error_not_a_verdict(listed):
    engine = FakeEngine(lambda _, n: scores(0.9, n, listed))
    async with running_moderator(engine) as moderator:
        with pytest.raises(UnreadableVerdict):
            await moderator.moderate(alternating("hi"))


async def test_without_a_deadline_the_longest_wait_applies():
    engine = FakeEngine()
    engine.hold()
    async with running_moderator(engine, limits=Limits(max_wait_seconds=0.05)) as moderator:
        with pytest.raises(DeadlineExceeded):
            await moderator.moderate(alternating("hi"))
        engine.release()


async def test_the_longest_wait_begins_before_the_text_is_tokenised():
    class SlowToEncode(FakeEngine):
        def encode(self, prompt):
            time.sleep(0.1)
            return super().encode(prompt)

    engine = SlowToEncode()
    async with running_moderator(engine, limits=Limits(max_wait_seconds=0.05)) as moderator:
        with pytest.raises(DeadlineExceeded):
            await moderator.moderate(alternating("hi"))

    assert engine.journal == []


async def test_a_deadline_passes_while_the_engine_is_busy():
    engine = FakeEngine()
    engine.hold()
    async with running_moderator(engine) as moderator:
        with pytest.raises(DeadlineExceeded):
            await moderator.moderate(alternating("hi"), deadline=time.monotonic() + 0.05)
        engine.release()


async def test_verdicts_do_not_get_mixed_up():
    def judge(text, num_categories):
        return scores(int(text.split()[-1]) / 1000, num_categories, listed=(0,))

    async with running_moderator(FakeEngine(judge), max_batch_tokens=64) as moderator:
        verdicts = await asyncio.gather(
            *(moderator.moderate(alternating(f"number {i}")) for i in range(300))
        )

    assert [round(v.unsafe_probability * 1000) for v in verdicts] == list(range(300))


async def test_every_format_can_be_served_with_its_own_policy():
    for name in FORMATS:
        policy = default_policy(name)
        async with running_moderator(FakeEngine(prompt_format=name), policy=policy) as moderator:
            verdict = await moderator.moderate((Message(Role.USER, "a bomb"),))
        assert verdict.categories[0].code == policy.categories[0].code
        assert len(verdict.first_category) == len(policy.categories)
