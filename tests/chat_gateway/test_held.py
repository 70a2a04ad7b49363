"""What a client that asks is told of the text held back, and of the delay that holding added."""

import asyncio
import time
from contextlib import aclosing
from types import SimpleNamespace

import pytest

from chat_gateway.chat import Blocked, ChoiceFinished, FinishReason, Held, TextDelta, ToolCallDelta
from chat_gateway.observer import NullObserver
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from tests.chat_gateway.conversing import asking, converse
from tests.chat_gateway.fakes import (
    UNSAFE_PHRASE,
    FakeGuard,
    ScriptedGenerator,
    Stall,
    Step,
    answer,
)
from tests.chat_gateway.virtual_time import run_virtually

FIRST, SECOND = "The fox ran a long way. ", "Then it slept."
SLOWLY: list[Step] = [
    TextDelta(0, FIRST),
    Stall(10.0),
    TextDelta(0, SECOND),
    ChoiceFinished(0, FinishReason.STOP),
]
POLICY = GatewayPolicy(checkpoints=Checkpoints(first_characters=8, every_characters=16))
BUFFER = GatewayPolicy(mode=Mode.BUFFER)


@pytest.fixture(autouse=True)
def clock_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays are measured on the clock that a virtual loop makes jump."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr("chat_gateway.gate.time", clock)


def told(script, policy=POLICY, *, check_seconds: float = 2.0, num_choices: int = 1):
    """The events of an answer whose every check takes so long."""
    seen = run_virtually(
        converse(
            ScriptedGenerator(script),
            FakeGuard(check_seconds=check_seconds),
            policy,
            request=asking(num_choices=num_choices),
            tells_held=True,
        )
    )
    return seen.events


def held_of(events) -> list[Held]:
    return [event for event in events if isinstance(event, Held)]


def test_every_change_is_told_with_what_it_cost():
    first, *between, last = held_of(told(SLOWLY))

    assert first == Held(0, len(FIRST))
    assert [each.num_characters for each in between] == [0, len(SECOND)]
    assert [each.first_delay_seconds for each in between] == pytest.approx([2.0, 2.0])
    assert (last.num_characters, last.end_delay_seconds) == (0, pytest.approx(2.0))


def test_a_buffered_answer_is_held_to_its_end():
    *waiting, last = held_of(told(SLOWLY, BUFFER))

    assert [each.num_characters for each in waiting] == [len(FIRST), len(FIRST + SECOND)]
    assert last.first_delay_seconds == pytest.approx(12.0)
    assert last.end_delay_seconds == pytest.approx(2.0)


def test_a_guard_that_takes_no_time_adds_no_delay():
    last = held_of(told(SLOWLY, check_seconds=0.0))[-1]

    assert last == Held(0, 0, 0.0, 0.0)


def test_each_choice_is_told_apart():
    script = [*answer(FIRST, choice=1), *answer(UNSAFE_PHRASE, choice=0)]

    events = told(script, num_choices=2)

    last = {each.choice: each for each in held_of(events)}
    assert [each.num_characters for each in last.values()] == [0, 0]
    assert last[0].end_delay_seconds is None
    assert last[1].end_delay_seconds is not None
    assert any(isinstance(event, Blocked) for event in events)


def test_a_tool_call_on_its_way_counts_as_held():
    script = [
        ToolCallDelta(0, 0, '{"city": ', id="c", name="weather"),
        Stall(1.0),
        ToolCallDelta(0, 0, '"Oslo"}'),
        Stall(1.0),
        ChoiceFinished(0, FinishReason.TOOL_CALLS),
    ]

    held = [each.num_characters for each in held_of(told(script))]

    assert held == [9, 16, len('weather({"city": "Oslo"})'), 0]


@pytest.mark.parametrize("mode", [Mode.ANNOTATE, Mode.SHADOW])
def test_where_nothing_is_held_nothing_is_told(mode: Mode):
    assert held_of(told(SLOWLY, GatewayPolicy(mode=mode))) == []


def test_a_reader_who_is_late_is_told_once_and_what_holds_when_it_reads():
    async def read_late() -> list[Held]:
        pipeline = ChatPipeline(FakeGuard(), ScriptedGenerator(answer(FIRST)), NullObserver())
        deadline = time.monotonic() + 3600
        events = pipeline.chat(asking(), BUFFER, request_id="r", deadline=deadline, tells_held=True)
        held = []
        async with aclosing(events):
            async for event in events:
                await asyncio.sleep(60.0)
                if isinstance(event, Held):
                    held.append(event)
        return held

    numbers = [each.num_characters for each in run_virtually(read_late())]

    assert numbers == [4, 0]


async def test_who_does_not_ask_is_told_nothing():
    seen = await converse(ScriptedGenerator(SLOWLY[:1] + SLOWLY[2:]), FakeGuard(), POLICY)

    assert seen.of(Held) == []
