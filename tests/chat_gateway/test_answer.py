"""Generator, guard and client at their own speeds: deadlines, leaving early, and pressure."""

import asyncio
import time
from contextlib import aclosing

import pytest

from chat_gateway import answer as answer_module
from chat_gateway.chat import (
    Channel,
    ChoiceFinished,
    FinishReason,
    GeneratorFailed,
    OutOfTime,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
)
from chat_gateway.observer import NullObserver, Outcome
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from tests.chat_gateway.conversing import Journal, asking, converse
from tests.chat_gateway.fakes import (
    Crash,
    FakeGuard,
    ScriptedGenerator,
    Stall,
    answer,
)
from tests.chat_gateway.virtual_time import run_virtually

STORY = "Once there was a fox. It ran and ran. Then it slept. " * 4
CLOSE = Checkpoints(first_characters=8, every_characters=16, max_every_characters=32)
STRICT = GatewayPolicy(checkpoints=CLOSE)
STOP = ChoiceFinished(0, FinishReason.STOP)


def test_the_deadline_is_passed_to_every_hop():
    guard, generator = FakeGuard(), ScriptedGenerator(answer(STORY))
    before = time.monotonic()

    run_virtually(converse(generator, guard, STRICT, seconds=20.0))

    assert len(guard.calls) == 2
    assert all(10.0 < call.timeout_seconds <= 20.0 for call in guard.calls)
    assert before + 20.0 <= generator.deadlines[0] <= time.monotonic() + 20.0
    assert {call.request_id for call in guard.calls} == {"request-1"}


@pytest.mark.parametrize("slow", ["prompt", "check", "generator"])
def test_whoever_is_slow_the_deadline_ends_the_request(slow):
    guard = FakeGuard(
        prompt_seconds=1e6 * (slow == "prompt"), check_seconds=1e6 * (slow == "check")
    )
    stall = [Stall(1e6)] if slow == "generator" else []
    generator, journal = ScriptedGenerator([*answer(STORY)[:9], *stall, STOP]), Journal()

    seen = run_virtually(converse(generator, guard, STRICT, observer=journal, seconds=20.0))

    assert isinstance(seen.error, OutOfTime) or (slow == "prompt" and seen.error is not None)
    assert all(call.closed for call in guard.calls)
    assert generator.closed or generator.requests == []


async def test_a_request_that_comes_too_late_asks_nobody():
    guard, generator = FakeGuard(), ScriptedGenerator(answer(STORY))

    seen = await converse(generator, guard, STRICT, seconds=0.0)

    assert isinstance(seen.error, OutOfTime)
    assert (guard.calls, generator.requests) == ([], [])


@pytest.mark.parametrize("num_events", range(6))
async def test_a_client_that_leaves_ends_generator_and_guard(num_events):
    guard, journal = FakeGuard(), Journal()
    generator = ScriptedGenerator([*answer(STORY)[:20], Stall(1e6), STOP])
    pipeline = ChatPipeline(guard, generator, journal)
    told = pipeline.chat(asking(), STRICT, request_id="r", deadline=time.monotonic() + 60)

    async with aclosing(told):
        for _ in range(num_events):
            await anext(told)

    assert all(call.closed for call in guard.calls)
    assert generator.closed or not generator.requests
    assert journal.outcomes == ([Outcome.CANCELLED] if num_events else [])


def test_text_that_nobody_waits_for_any_more_counts_as_withheld():
    guard, journal = FakeGuard(check_seconds=1e6), Journal()

    seen = run_virtually(
        converse(ScriptedGenerator(answer(STORY)), guard, STRICT, observer=journal, seconds=20.0)
    )

    assert isinstance(seen.error, OutOfTime)
    assert (journal.num_released, journal.num_withheld) == (0, len(STORY))


async def test_cancelling_the_one_who_waits_ends_generator_and_guard():
    guard, generator = FakeGuard(), ScriptedGenerator([*answer(STORY)[:20], Stall(1e6)])
    waiting = asyncio.ensure_future(converse(generator, guard, STRICT))
    await guard.checkpoint_reached.wait()

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert all(call.closed for call in guard.calls)
    assert generator.closed


@pytest.mark.parametrize(
    "script",
    [
        [TextDelta(0, STORY)],
        [TextDelta(1, STORY), STOP],
        [TextDelta(-1, STORY), STOP],
        [STOP, TextDelta(0, STORY)],
        [ToolCallDelta(0, 0, "{}"), STOP],
        ["something new", STOP],
        [TextDelta(0, STORY), Crash(ValueError("a private text"))],
    ],
    ids=[
        "no end",
        "other choice",
        "no choice",
        "after the end",
        "unnamed tool",
        "unknown",
        "crash",
    ],
)
async def test_a_generator_that_breaks_its_contract_fails(script):
    journal = Journal()

    seen = await converse(ScriptedGenerator(script), FakeGuard(), STRICT, observer=journal)

    if script[0] is STOP:
        assert seen.text() == ""
        return
    assert isinstance(seen.error, GeneratorFailed)
    assert "private" not in str(seen.error)
    assert journal.outcomes == [Outcome.GENERATOR_FAILED]


async def test_an_error_after_a_complete_answer_is_no_error():
    script = [*answer(STORY), Crash(GeneratorFailed("no usage"))]

    seen = await converse(ScriptedGenerator(script), FakeGuard(), STRICT)

    assert seen.error is None
    assert seen.text() == STORY


async def test_usage_comes_last():
    script = [TokenUsage(1, 1), *answer(STORY)]

    seen = await converse(ScriptedGenerator(script), FakeGuard(), STRICT)

    assert seen.events[-1] == TokenUsage(1, 1)


def test_reading_the_generator_does_not_wait_for_a_check():
    generator = ScriptedGenerator(answer(STORY))
    guard = FakeGuard(check_seconds=3.0)

    async def read() -> bool:
        pipeline = ChatPipeline(guard, generator, NullObserver())
        told = pipeline.chat(asking(), STRICT, request_id="r", deadline=time.monotonic() + 60)
        async with aclosing(told):
            async for event in told:
                if isinstance(event, TextDelta):
                    return generator.closed
        return False

    assert run_virtually(read())


def test_a_slow_guard_holds_an_endless_generator_back():
    num_pieces = 300
    script = [*(TextDelta(0, "x" * 1000) for _ in range(num_pieces)), STOP]
    generator, guard = ScriptedGenerator(script), FakeGuard(check_seconds=10.0)

    async def read_slowly() -> int:
        pipeline = ChatPipeline(guard, generator, NullObserver())
        told = pipeline.chat(asking(), STRICT, request_id="r", deadline=time.monotonic() + 3600)
        num_characters = most_ahead = 0
        async with aclosing(told):
            async for event in told:
                if isinstance(event, TextDelta):
                    num_characters += len(event.text)
                    await asyncio.sleep(1.0)
                    most_ahead = max(most_ahead, 1000 * generator.num_steps - num_characters)
        assert num_characters == 1000 * num_pieces
        return most_ahead

    most_ahead = run_virtually(read_slowly())

    assert most_ahead <= answer_module.MAX_WAITING_CHARACTERS + 2000


async def test_more_than_can_be_held_is_refused():
    num_pieces = answer_module.MAX_HELD_CHARACTERS // 1000 + 2
    script = [*(TextDelta(0, "x" * 1000) for _ in range(num_pieces)), STOP]

    seen = await converse(ScriptedGenerator(script), FakeGuard(), GatewayPolicy(mode=Mode.BUFFER))

    assert isinstance(seen.error, GeneratorFailed)
    assert seen.text() == ""


async def test_an_answer_that_goes_back_and_forth_without_end_is_refused():
    ways = (Channel.CONTENT, Channel.REASONING)
    script = [*(TextDelta(0, "x" * 1000, ways[i % 2]) for i in range(500)), STOP]

    seen = await converse(ScriptedGenerator(script), FakeGuard(), GatewayPolicy(mode=Mode.BUFFER))

    assert isinstance(seen.error, GeneratorFailed)
    assert seen.text() == ""


def test_a_guard_stream_is_kept_alive_through_a_long_pause():
    sent = []

    class ListeningGuard(FakeGuard):
        def stream(self, conversation, **kwargs):
            opened = super().stream(conversation, **kwargs)
            return Listening(opened)

    class Listening:
        def __init__(self, opened):
            self._opened = opened

        async def __aenter__(self):
            stream = await self._opened.__aenter__()
            send = stream.send

            async def listen(text, *, check=False):
                sent.append(text)
                await send(text, check=check)

            stream.send = listen
            return stream

        async def __aexit__(self, *error):
            return await self._opened.__aexit__(*error)

    script = [TextDelta(0, STORY), Stall(50.0), *answer("End.")]

    run_virtually(converse(ScriptedGenerator(script), ListeningGuard(), STRICT))

    assert sent.count("") == 3


@pytest.mark.parametrize("mode", [Mode.ANNOTATE, Mode.SHADOW])
def test_an_answer_that_never_waited_for_its_verdict_does_not_fail_for_want_of_it(mode):
    guard = FakeGuard(check_seconds=1e6)
    policy = GatewayPolicy(mode=mode)

    seen = run_virtually(converse(ScriptedGenerator(answer(STORY)), guard, policy, seconds=20.0))

    assert seen.error is None
    assert seen.text() == STORY


@pytest.mark.parametrize("probability", [0.4, 0.9], ids=["in doubt", "unsafe"])
def test_a_blocked_choice_gives_its_guard_stream_back_at_once(probability):
    guard = FakeGuard(judge=lambda text: probability if text.startswith("Maybe") else 0.01)
    script = [
        TextDelta(0, "Maybe, or maybe not."),
        Stall(30.0),
        *answer(STORY, choice=1),
    ]
    policy = GatewayPolicy(checkpoints=CLOSE, hold_from=0.3, max_hold_seconds=1.0)

    async def read() -> bool:
        told = ChatPipeline(guard, ScriptedGenerator(script), NullObserver()).chat(
            asking(num_choices=2), policy, request_id="r", deadline=time.monotonic() + 60
        )
        async with aclosing(told):
            async for event in told:
                if isinstance(event, TextDelta):
                    return guard.streams[0].closed
        return False

    assert run_virtually(read())


def test_a_client_that_has_caught_up_lets_the_generator_go_on():
    num_pieces = 2 * answer_module.MAX_WAITING_CHARACTERS // 1000
    script = [*(TextDelta(0, "x" * 1000) for _ in range(num_pieces)), STOP]
    guard, generator = FakeGuard(check_seconds=1e6), ScriptedGenerator(script)
    policy = GatewayPolicy(mode=Mode.ANNOTATE)

    async def read_after_a_pause() -> int:
        told = ChatPipeline(guard, generator, NullObserver()).chat(
            asking(), policy, request_id="r", deadline=time.monotonic() + 60
        )
        async with aclosing(told):
            await anext(told)
            await asyncio.sleep(1.0)
            assert not generator.closed
            return 1 + len([event async for event in told if isinstance(event, TextDelta)])

    assert run_virtually(read_after_a_pause()) == num_pieces


def test_an_answer_that_never_waits_for_verdicts_is_out_of_time_without_its_end():
    script = [*answer(STORY)[:9], Stall(1e6), STOP]
    policy = GatewayPolicy(mode=Mode.ANNOTATE)

    seen = run_virtually(converse(ScriptedGenerator(script), FakeGuard(), policy, seconds=20.0))

    assert isinstance(seen.error, OutOfTime)
