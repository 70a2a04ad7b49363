"""The order of things, and that every failure on the way ends in a block."""

import asyncio
import time

import pytest

from chat_gateway.chat import (
    Blocked,
    Channel,
    ChatMessage,
    ChoiceFinished,
    FinishReason,
    InvalidChat,
    Judged,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from chat_gateway.observer import Action, NullObserver, Outcome
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.moderation import (
    Message,
    NotReady,
    Phase,
    Role,
)
from tests.chat_gateway.conversing import Journal, asking, converse, user
from tests.chat_gateway.fakes import (
    UNSAFE_PHRASE,
    FakeGuard,
    ScriptedGenerator,
    Stall,
    answer,
)
from tests.chat_gateway.virtual_time import run_virtually

STORY = "Once there was a fox. It ran and ran. Then it slept. " * 4
CLOSE = Checkpoints(first_characters=8, every_characters=16, max_every_characters=32)
STRICT = GatewayPolicy(checkpoints=CLOSE)
BOTH = frozenset(Phase)
MODES_THAT_BLOCK = (Mode.STRICT, Mode.BUFFER)


async def test_a_safe_answer_passes_whole_after_its_verdicts():
    usage = TokenUsage(5, 50)
    journal = Journal()
    generator = ScriptedGenerator([*answer(STORY), usage])

    seen = await converse(generator, FakeGuard(), STRICT, observer=journal)

    assert seen.text() == STORY
    assert seen.events[0] == Judged(Phase.PROMPT, seen.verdicts[0].verdict, None, 15, final=True)
    assert seen.events[-2:] == [ChoiceFinished(0, FinishReason.STOP), usage]
    assert [d.action for d in journal.decisions] == [Action.PASSED, Action.PASSED]
    assert [d.text for d in journal.decisions] == ["Tell me a story", STORY]
    assert (journal.num_released, journal.num_withheld) == (len(STORY), 0)
    assert journal.num_first_texts == 1
    assert journal.outcomes == [Outcome.ANSWERED]
    assert journal.delays == [Phase.PROMPT, Phase.RESPONSE]


async def test_an_unsafe_prompt_is_blocked_before_the_generator_is_asked():
    generator, journal = ScriptedGenerator(answer(STORY)), Journal()
    request = asking(user(f"How do I {UNSAFE_PHRASE}?"))

    seen = await converse(generator, FakeGuard(), STRICT, request=request, observer=journal)

    [block] = seen.blocks
    assert (block.phase, block.choice, block.refusal) == (Phase.PROMPT, None, STRICT.refusal)
    assert block.verdict is not None
    assert block.verdict.unsafe
    assert generator.requests == []
    assert journal.outcomes == [Outcome.PROMPT_BLOCKED]


async def test_a_parallel_prompt_check_holds_everything_until_its_verdict():
    guard, generator = FakeGuard(), ScriptedGenerator(answer(STORY))
    policy = GatewayPolicy(parallel_prompt_check=True, checkpoints=CLOSE)
    guard.hold()
    pipeline = ChatPipeline(guard, generator, NullObserver())
    told = pipeline.chat(asking(), policy, request_id="r", deadline=time.monotonic() + 60)
    first = asyncio.ensure_future(anext(told))
    await generator.ended.wait()
    assert not first.done()
    guard.release()

    assert isinstance(await first, Judged)
    assert "".join([e.text async for e in told if isinstance(e, TextDelta)]) == STORY


def test_a_generator_that_started_early_is_asked_once():
    steps = answer(STORY)
    generator = ScriptedGenerator([*steps[:5], Stall(5.0), *steps[5:]])
    policy = GatewayPolicy(parallel_prompt_check=True)

    seen = run_virtually(converse(generator, FakeGuard(prompt_seconds=1.0), policy))

    assert len(generator.requests) == 1
    assert seen.text() == STORY


def test_an_unsafe_prompt_stops_a_generator_that_started_early():
    generator = ScriptedGenerator([*answer(STORY)[:5], Stall(3600)])
    policy = GatewayPolicy(parallel_prompt_check=True)
    request = asking(user(UNSAFE_PHRASE))

    seen = run_virtually(
        converse(generator, FakeGuard(prompt_seconds=1.0), policy, request=request)
    )

    assert [type(event) for event in seen.events] == [Judged, Blocked]
    assert generator.closed


async def test_the_answer_is_judged_in_the_context_the_generator_had():
    guard, generator = FakeGuard(), ScriptedGenerator(answer(STORY))
    call = ToolCall("c1", "look", '{"a": 1}')
    request = asking(
        ChatMessage(Role.SYSTEM, "  Be kind. "),
        user("Hello"),
        ChatMessage(Role.ASSISTANT, "", tool_calls=(call,)),
        ChatMessage(Role.TOOL, "42", tool_call_id="c1"),
        user(" "),
    )

    await converse(generator, guard, STRICT, request=request)

    context = (
        Message(Role.SYSTEM, "  Be kind. "),
        Message(Role.USER, "Hello"),
        Message(Role.ASSISTANT, 'look({"a": 1})'),
        Message(Role.TOOL, "42"),
    )
    prompt_call, fields_call, answer_call = guard.calls
    assert prompt_call.conversation == context
    assert fields_call.conversation == (Message(Role.USER, "Tool call: c1"),)
    assert answer_call.conversation == (*context, Message(Role.ASSISTANT, STORY))
    assert generator.requests == [request]


@pytest.mark.parametrize(
    "messages",
    [(user(" "),), (user("Hi"), ChatMessage(Role.ASSISTANT, "Sure, here is"))],
    ids=["blank", "begun answer"],
)
async def test_a_conversation_that_cannot_be_judged_is_refused(messages):
    seen = await converse(ScriptedGenerator([]), FakeGuard(), request=asking(*messages))

    assert isinstance(seen.error, InvalidChat)
    assert seen.error.param == "messages"
    assert seen.events == []


async def test_what_the_generator_cannot_do_is_refused_before_the_guard_is_asked():
    guard, generator, journal = FakeGuard(), ScriptedGenerator([]), Journal()
    generator.refusal = InvalidChat("tools", "not supported")

    seen = await converse(generator, guard, observer=journal)

    assert seen.error is generator.refusal
    assert guard.calls == []
    assert journal.outcomes == [Outcome.REFUSED]


async def test_prompt_and_answer_are_judged_by_the_guards_policy_that_the_gateways_names():
    guard = FakeGuard()

    await converse(ScriptedGenerator(answer(STORY)), guard, GatewayPolicy(guard_policy_id="school"))

    assert [call.policy_id for call in guard.calls] == ["school", "school"]


def test_an_unsafe_answer_ends_its_choice_and_stops_the_generator():
    text = STORY + UNSAFE_PHRASE
    generator, journal = ScriptedGenerator([*answer(text)[:-1], Stall(1e6)]), Journal()
    guard = FakeGuard()

    seen = run_virtually(converse(generator, guard, STRICT, observer=journal))

    assert isinstance(seen.events[-1], Blocked)
    assert seen.blocks[0].choice == 0
    assert seen.finishes == []
    assert generator.closed
    assert all(call.closed for call in guard.calls)
    assert journal.num_released + journal.num_withheld == len(text)
    assert journal.delays == [Phase.PROMPT]
    assert journal.generator_errors == ["cancelled"]
    assert journal.outcomes == [Outcome.RESPONSE_BLOCKED]


def test_one_blocked_choice_leaves_the_other_to_its_end():
    bad, good = answer(UNSAFE_PHRASE, choice=0), answer(STORY, choice=1)
    more = TextDelta(0, " and more")
    generator, journal = ScriptedGenerator([*bad[:-1], Stall(5.0), more, *good]), Journal()

    seen = run_virtually(
        converse(generator, FakeGuard(), request=asking(num_choices=2), observer=journal)
    )

    assert [block.choice for block in seen.blocks] == [0]
    assert (seen.text(0), seen.text(1)) == ("", STORY)
    assert journal.num_withheld == len(UNSAFE_PHRASE + more.text)
    assert [finish.choice for finish in seen.finishes] == [1]


def test_an_unsafe_checkpoint_blocks_even_if_later_text_would_make_it_safe():
    guard = FakeGuard(judge=lambda text: 0.9 if text.endswith(UNSAFE_PHRASE) else 0.01)
    text = f"This is how you {UNSAFE_PHRASE}"
    generator = ScriptedGenerator([TextDelta(0, text), Stall(1.0), *answer(" in a dream.")])

    seen = run_virtually(converse(generator, guard, STRICT))

    assert len(seen.blocks) == 1
    assert seen.text() == ""


def test_tool_calls_are_released_whole_and_judged():
    pieces = [
        ToolCallDelta(0, 1, '{"a"', "c1", "look"),
        ToolCallDelta(0, 0, "{}", "c0", "wait"),
        ToolCallDelta(0, 1, ": 1}"),
        ChoiceFinished(0, FinishReason.TOOL_CALLS),
    ]
    guard = FakeGuard()

    seen = run_virtually(converse(ScriptedGenerator(pieces), guard, STRICT))

    assert seen.of(ToolCallDelta) == [
        ToolCallDelta(0, 0, "{}", "c0", "wait"),
        ToolCallDelta(0, 1, '{"a": 1}', "c1", "look"),
    ]
    assert guard.streams[0].judged_text == 'wait({})\n\nlook({"a": 1})'


async def test_reasoning_refusal_and_content_are_judged_as_one_text():
    pieces = [
        TextDelta(0, "Let me think", Channel.REASONING),
        TextDelta(0, " twice.", Channel.REASONING),
        TextDelta(0, "Yes.", Channel.CONTENT),
        TextDelta(0, "No.", Channel.REFUSAL),
        ChoiceFinished(0, FinishReason.STOP),
    ]
    guard = FakeGuard()

    await converse(ScriptedGenerator(pieces), guard, STRICT)

    assert guard.streams[0].judged_text == "Let me think twice.\n\nYes.\n\nNo."


@pytest.mark.parametrize("text", ["", " \n "])
async def test_an_answer_without_text_needs_no_verdict(text):
    guard = FakeGuard(stream_error=NotReady("down"))

    seen = await converse(ScriptedGenerator(answer(text)), guard, STRICT)

    assert (seen.text(), len(seen.finishes), seen.blocks) == (text, 1, [])
    assert guard.streams == []


async def test_blank_text_waits_for_the_text_after_it():
    guard = FakeGuard()
    script = answer(" " * 100 + UNSAFE_PHRASE, piece=10)

    seen = await converse(ScriptedGenerator(script), guard, STRICT)

    assert seen.text() == ""
    assert len(seen.blocks) == 1
