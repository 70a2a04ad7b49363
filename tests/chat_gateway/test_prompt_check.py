"""Everything a generator is given is judged, at the same time, and the worst decides."""

import asyncio
from dataclasses import replace

import pytest

from chat_gateway.chat import (
    ChatMessage,
    ChatRequest,
    GuardUnavailable,
    InvalidChat,
    OutOfTime,
    Sampling,
    ToolCall,
)
from chat_gateway.observer import Action, Part
from chat_gateway.policy import GatewayPolicy, Mode
from chat_gateway.request_fields import fields_text
from guard_service.moderation import InvalidRequest, JudgementFailed, NotReady, Phase, Role
from tests.chat_gateway.conversing import Journal, asking, converse, user
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, answer
from tests.chat_gateway.virtual_time import run_virtually

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather\nof a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}
FULL = ChatRequest(
    messages=(
        ChatMessage(Role.USER, "And Köln?", name="anna"),
        ChatMessage(Role.ASSISTANT, "", tool_calls=(ToolCall("call-1", "weather", "{}"),)),
        ChatMessage(Role.TOOL, "Rain", tool_call_id="call-1"),
        ChatMessage(Role.USER, "Thanks", name="anna"),
    ),
    model="scripted",
    sampling=Sampling(stop=("END", "\n\n")),
    tools=(TOOL,),
    tool_choice={"type": "function", "function": {"name": "weather"}},
)


DEFINITION = (
    '{"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}, "strict": true}'
)


def test_each_text_beside_the_messages_is_rendered_once_by_its_own_rule():
    assert fields_text(FULL).splitlines() == [
        "Tool: weather",
        "Description: The weather",
        "of a city",
        f"Definition: {DEFINITION}",
        "Tool to call: weather",
        "Speaker: anna",
        "Tool call: call-1",
        "Stop: END",
    ]


def strings_of(value: object) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {text for pair in value.items() for each in pair for text in strings_of(each)}
    if isinstance(value, list | tuple):
        return {text for each in value for text in strings_of(each)}
    if hasattr(value, "__dataclass_fields__"):
        return {
            text for name in value.__dataclass_fields__ for text in strings_of(getattr(value, name))
        }
    return set()


async def test_no_string_of_a_request_goes_to_the_generator_unread():
    guard = FakeGuard()

    await converse(ScriptedGenerator(answer("Fine.")), guard, request=FULL)

    read = "\n".join(message.content for call in guard.calls for message in call.conversation)
    # Which model answers and what kinds of things there are is for the gateway to say.
    ours = {"scripted", "user", "assistant", "tool", "function", "\n\n"}
    structure = {"type", "function", "name", "description"}
    assert {text for text in strings_of(FULL) if text not in read} - ours - structure == set()


async def test_a_request_of_messages_alone_costs_one_call_before_its_answer():
    guard = FakeGuard()
    turns = (user("Hi"), ChatMessage(Role.ASSISTANT, "Hello"), user("How are you?"))

    await converse(ScriptedGenerator(answer("Fine.")), guard, request=asking(*turns))

    assert [call.streamed for call in guard.calls] == [False, True]


async def test_an_answer_is_judged_in_the_context_of_the_messages_alone():
    guard = FakeGuard()

    await converse(ScriptedGenerator(answer("Fine.")), guard, request=FULL)

    [stream] = guard.streams
    assert "Definition" not in "".join(message.content for message in stream.conversation)


@pytest.mark.parametrize("mode", list(Mode))
async def test_unsafe_fields_decide_as_an_unsafe_prompt_does(mode: Mode):
    request = replace(asking(user("Hello")), sampling=Sampling(stop=(UNSAFE_PHRASE,)))
    generator, journal = ScriptedGenerator(answer("Fine.")), Journal()

    seen = await converse(
        generator, FakeGuard(), GatewayPolicy(mode=mode), request=request, observer=journal
    )

    assert [block.phase for block in seen.blocks] == ([Phase.PROMPT] if mode.blocks else [])
    assert (generator.requests == []) is mode.blocks
    decision = next(each for each in journal.decisions if each.phase is Phase.PROMPT)
    assert decision.action is (Action.BLOCKED if mode.blocks else Action.REPORTED)
    assert (decision.part, decision.text) == (Part.FIELDS, f"Stop: {UNSAFE_PHRASE}")


async def test_a_prompt_that_is_safe_in_every_part_is_recorded_by_its_own_text():
    journal = Journal()

    await converse(ScriptedGenerator(answer("Fine.")), FakeGuard(), request=FULL, observer=journal)

    assert [(each.part, each.text) for each in journal.decisions] == [
        (Part.LAST_TURN, "Thanks"),
        (Part.LAST_TURN, "Fine."),
    ]


class HalfGuard(FakeGuard):
    """Judges the messages, and fails on what stands beside them."""

    failure: Exception = NotReady("starting")

    async def moderate(self, conversation, **options):
        if conversation[-1].content.startswith(("Tool: ", "Stop: ")):
            raise self.failure
        return await super().moderate(conversation, **options)


STOPPED = replace(asking(user("Hello")), sampling=Sampling(stop=("END",)))


@pytest.mark.parametrize("opens", [False, True])
async def test_fields_without_a_verdict_pass_only_where_the_policy_says_so(opens: bool):  # noqa: FBT001
    policy = GatewayPolicy(fail_open=frozenset({Phase.PROMPT}) if opens else frozenset())
    generator = ScriptedGenerator(answer("Fine."))

    seen = await converse(generator, HalfGuard(), policy, request=STOPPED)

    assert len(seen.unjudged) == int(opens)
    assert (seen.error is None) is opens
    assert bool(generator.requests) is opens


@pytest.mark.parametrize("failure", [NotReady("x"), JudgementFailed("x"), OutOfTime("x")])
async def test_nothing_that_goes_wrong_beside_an_unsafe_verdict_lets_it_pass(failure: Exception):
    guard = HalfGuard()
    guard.failure = failure
    policy = GatewayPolicy(fail_open=frozenset(Phase))
    request = replace(STOPPED, messages=(user(UNSAFE_PHRASE),))

    seen = await converse(ScriptedGenerator(answer("Fine.")), guard, policy, request=request)

    assert [block.phase for block in seen.blocks] == [Phase.PROMPT]


@pytest.mark.parametrize(
    ("request_", "param"),
    [(STOPPED, "stop"), (replace(STOPPED, tools=(TOOL,)), "tools")],
)
async def test_fields_the_guard_refuses_are_the_callers_fault_by_name(request_, param):
    guard = HalfGuard()
    guard.failure = InvalidRequest("conversation.messages[0].content", "too long")

    seen = await converse(ScriptedGenerator([]), guard, request=request_)

    assert isinstance(seen.error, InvalidChat)
    assert seen.error.param == param


def test_the_parts_are_judged_at_the_same_time():
    guard = FakeGuard(prompt_seconds=10.0)

    seen = run_virtually(
        converse(ScriptedGenerator(answer("Fine.")), guard, request=FULL, seconds=15.0)
    )

    assert seen.error is None


HISTORY = (
    ChatMessage(Role.SYSTEM, "Be kind."),
    user("Hello"),
    ChatMessage(Role.ASSISTANT, "Hi there"),
    user("And now?"),
)


async def test_every_earlier_turn_is_judged_where_the_policy_asks_for_it():
    guard = FakeGuard()
    policy = GatewayPolicy(judge_earlier_turns=True)

    await converse(ScriptedGenerator(answer("Fine.")), guard, policy, request=asking(*HISTORY))

    judged = [[each.content for each in call.conversation] for call in guard.calls[:3]]
    assert judged == [
        ["Be kind.", "Hello", "Hi there", "And now?"],
        ["Be kind.", "Hello"],
        ["Be kind.", "Hello", "Hi there"],
    ]


@pytest.mark.parametrize("opens_with", ["system", "user"])
@pytest.mark.parametrize("turn", [1, 2])
async def test_an_unsafe_earlier_turn_blocks_where_each_is_judged(turn: int, opens_with: str):
    messages = list(HISTORY)
    messages[turn] = replace(messages[turn], content=UNSAFE_PHRASE)
    messages = messages if opens_with == "system" else messages[1:]
    journal, generator = Journal(), ScriptedGenerator(answer("Fine."))

    seen = await converse(
        generator,
        FakeGuard(),
        GatewayPolicy(judge_earlier_turns=True),
        request=asking(*messages),
        observer=journal,
    )

    assert len(seen.blocks) == 1
    assert generator.requests == []
    assert journal.decisions[0].part is Part.EARLIER_TURN


@pytest.mark.parametrize("slow_part", ["Hello", "Stop: END"])
async def test_a_part_without_a_verdict_at_the_deadline_ends_the_request(slow_part: str):
    class SlowGuard(FakeGuard):
        async def moderate(self, conversation, **kwargs):
            if conversation[-1].content == slow_part:
                await asyncio.Event().wait()
            return await super().moderate(conversation, **kwargs)

    policy = GatewayPolicy(fail_open=frozenset(Phase))
    generator = ScriptedGenerator(answer("Fine."))

    async with asyncio.timeout(60):
        seen = await converse(generator, SlowGuard(), policy, request=STOPPED, seconds=0.2)

    assert isinstance(seen.error, OutOfTime)
    assert seen.events == []
    assert generator.requests == []


@pytest.mark.parametrize("broken_part", ["Hello", "Stop: END"])
async def test_an_absent_guard_opens_nothing_beside_an_error_that_closes(broken_part: str):
    class BrokenGuard(FakeGuard):
        async def moderate(self, conversation, **_):
            if conversation[-1].content == broken_part:
                raise JudgementFailed("no word of it")
            raise NotReady("down")

    policy = GatewayPolicy(fail_open=frozenset(Phase))
    generator = ScriptedGenerator(answer("Fine."))

    seen = await converse(generator, BrokenGuard(), policy, request=STOPPED)

    assert isinstance(seen.error, GuardUnavailable)
    assert seen.events == []
    assert generator.requests == []


async def test_a_last_turn_that_the_guard_refuses_is_called_by_its_own_name():
    too_long = InvalidRequest("conversation.messages[0].content", "too long")

    seen = await converse(ScriptedGenerator([]), FakeGuard(prompt_error=too_long), request=STOPPED)

    assert isinstance(seen.error, InvalidChat)
    assert seen.error.param == "messages"
