"""The gRPC API answers, refuses and fails as its contract says."""

import asyncio

import grpc
import pytest

from chat_gateway.chat import ChoiceFinished, FinishReason, TextDelta, TokenUsage, ToolCallDelta
from chat_gateway.places import Places
from chat_gateway.policy import GatewayPolicy, Mode
from chat_gateway.v1 import chat_pb2
from guard_service.moderation import NotReady, Phase
from guard_service.v1 import guard_pb2
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, Stall, answer
from tests.chat_gateway.grpc_server.serving import asking, asking_stream, running, until

SAFE = "Paris has a tower, a river and a museum. All are worth a visit."
UNSAFE = f"Surely. First of all, to {UNSAFE_PHRASE} you need a lot of things."


def released(events: list[chat_pb2.ChatStreamResponse], choice: int = 0) -> str:
    return "".join(
        event.text.text
        for event in events
        if event.WhichOneof("event") == "text" and event.text.choice == choice
    )


async def test_a_safe_answer_comes_whole_with_its_verdicts():
    script = [*answer(SAFE), TokenUsage(3, 14)]
    async with running(FakeGuard(), ScriptedGenerator(script)) as gateway:
        response = await gateway.stub.Chat(asking(request_id="mine"))

    [choice] = response.choices
    assert (choice.content, choice.finish_reason) == (SAFE, chat_pb2.FINISH_REASON_STOP)
    assert (response.request_id, response.model, response.policy_id) == (
        "mine",
        "scripted",
        "default",
    )
    assert response.usage.completion_tokens == 14
    assert {each.phase for each in response.judged} == {
        guard_pb2.PHASE_PROMPT,
        guard_pb2.PHASE_RESPONSE,
    }
    assert response.judged[-1].final
    assert not response.HasField("refusal")


async def test_a_blocked_prompt_is_a_typed_refusal_without_choices():
    generator = ScriptedGenerator(answer(SAFE))
    async with running(FakeGuard(), generator) as gateway:
        response = await gateway.stub.Chat(asking(f"How do I {UNSAFE_PHRASE}?"))

    assert response.refusal.phase == guard_pb2.PHASE_PROMPT
    assert response.refusal.message == GatewayPolicy().refusal
    assert response.refusal.unsafe_probability == pytest.approx(0.9)
    assert [category.code for category in response.refusal.categories] == ["S9"]
    assert response.refusal.guard_model.id == "oracle"
    assert response.refusal.guard_policy.digest == "d" * 64
    assert not response.refusal.without_verdict
    assert not response.choices
    assert generator.num_steps == 0


async def test_a_blocked_answer_keeps_nothing_of_what_was_written():
    async with running(FakeGuard(), ScriptedGenerator(answer(UNSAFE))) as gateway:
        response = await gateway.stub.Chat(asking())

    [choice] = response.choices
    assert choice.content == ""
    assert choice.finish_reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert choice.refusal.phase == guard_pb2.PHASE_RESPONSE


async def test_a_stream_tells_of_the_block_and_ends_its_choice():
    async with running(FakeGuard(), ScriptedGenerator(answer(UNSAFE))) as gateway:
        events = [event async for event in gateway.stub.ChatStream(asking_stream())]

    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "opened"
    assert kinds[-2:] == ["refusal", "finished"]
    assert events[-1].finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert UNSAFE_PHRASE not in released(events)


async def test_a_stream_of_a_blocked_prompt_ends_every_choice():
    async with running(FakeGuard(), ScriptedGenerator([])) as gateway:
        sampling = chat_pb2.Sampling(num_choices=2)
        call = gateway.stub.ChatStream(asking_stream(UNSAFE_PHRASE, sampling=sampling))
        events = [event async for event in call]

    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["opened", "judged", "refusal", "finished", "finished"]


async def test_a_stream_releases_every_choice_and_tool_call():
    script = [
        *answer(SAFE, choice=1),
        ToolCallDelta(0, 0, '{"city": ', id="call-1", name="weather"),
        ToolCallDelta(0, 0, '"Paris"}'),
        ChoiceFinished(0, FinishReason.TOOL_CALLS),
    ]
    async with running(FakeGuard(), ScriptedGenerator(script)) as gateway:
        tools = [chat_pb2.Tool(name="weather", parameters_json='{"type": "object"}')]
        sampling = chat_pb2.Sampling(num_choices=2)
        call = gateway.stub.ChatStream(asking_stream(tools=tools, sampling=sampling))
        events = [event async for event in call]

    calls = [event.tool_call for event in events if event.WhichOneof("event") == "tool_call"]
    assert released(events, choice=1) == SAFE
    assert (calls[0].id, calls[0].name) == ("call-1", "weather")
    assert "".join(call.arguments for call in calls) == '{"city": "Paris"}'


async def test_the_model_gets_what_was_asked():
    generator = ScriptedGenerator(answer(SAFE))
    sampling = chat_pb2.Sampling(temperature=0.0, max_tokens=7, stop=["END"], seed=3)
    tools = [chat_pb2.Tool(name="weather", description="Tells it.", parameters_json="{}")]
    choice = chat_pb2.ToolChoice(name="weather")
    async with running(FakeGuard(), generator) as gateway:
        await gateway.stub.Chat(asking(sampling=sampling, tools=tools, tool_choice=choice))

    [request] = generator.requests
    assert request.sampling.temperature == 0.0
    assert request.sampling.top_p is None
    assert (request.sampling.max_tokens, request.sampling.stop, request.sampling.seed) == (
        7,
        ("END",),
        3,
    )
    assert request.tools[0]["function"] == {
        "name": "weather",
        "description": "Tells it.",
        "parameters": {},
    }
    assert request.tool_choice == {"type": "function", "function": {"name": "weather"}}


async def test_without_a_verdict_on_the_prompt_the_guard_is_unavailable():
    guard = FakeGuard(prompt_error=NotReady("draining"))
    async with running(guard, ScriptedGenerator(answer(SAFE))) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking())

    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert gateway.counted("Chat", "UNAVAILABLE") == 1


async def test_without_a_verdict_on_the_answer_the_refusal_says_so():
    guard = FakeGuard(stream_error=NotReady("draining"))
    async with running(guard, ScriptedGenerator(answer(SAFE))) as gateway:
        response = await gateway.stub.Chat(asking())

    assert response.choices[0].refusal.without_verdict
    assert not response.choices[0].refusal.HasField("unsafe_probability")
    assert response.choices[0].content == ""


async def test_what_passed_unjudged_is_marked():
    guard = FakeGuard(prompt_error=NotReady("draining"))
    lenient = GatewayPolicy(fail_open=frozenset({Phase.PROMPT}))
    async with running(guard, ScriptedGenerator(answer(SAFE)), default=lenient) as gateway:
        response = await gateway.stub.Chat(asking())

    assert [each.phase for each in response.unjudged] == [guard_pb2.PHASE_PROMPT]
    assert response.choices[0].content == SAFE


async def test_a_shadow_policy_tells_the_caller_nothing():
    shadow = GatewayPolicy(mode=Mode.SHADOW)
    async with running(FakeGuard(), ScriptedGenerator(answer(UNSAFE)), default=shadow) as gateway:
        response = await gateway.stub.Chat(asking())

    assert response.choices[0].content == UNSAFE
    assert not response.judged


async def test_a_caller_may_choose_among_the_offered_policies_only():
    polite = GatewayPolicy(id="polite", refusal="Please not.")
    async with running(FakeGuard(), ScriptedGenerator([]), policies={"polite": polite}) as gateway:
        response = await gateway.stub.Chat(asking(UNSAFE_PHRASE, policy_id="polite"))
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking(policy_id="secret"))

    assert response.refusal.message == "Please not."
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "policy_id" in (failure.value.details() or "")


async def test_more_chats_than_allowed_are_turned_away_with_a_pause():
    guard = FakeGuard()
    guard.hold()
    async with running(guard, ScriptedGenerator(answer(SAFE)), places=Places(1)) as gateway:
        first = asyncio.ensure_future(gateway.stub.Chat(asking()))
        await until(lambda: guard.calls)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking())
        guard.release()
        response = await first

    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(failure.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "1000"
    assert response.choices[0].content == SAFE


async def test_a_caller_who_leaves_stops_the_model():
    generator = ScriptedGenerator([TextDelta(0, SAFE), Stall(3600.0)])
    async with running(FakeGuard(), generator) as gateway:
        call = gateway.stub.ChatStream(asking_stream())
        async for event in call:
            if event.WhichOneof("event") == "text":
                break
        call.cancel()
        await until(lambda: generator.closed and gateway.counted("ChatStream", "CANCELLED"))


async def test_the_callers_deadline_goes_on_to_the_model():
    generator = ScriptedGenerator([Stall(3600.0)])
    async with running(FakeGuard(), generator, max_chat_seconds=3600.0) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking(), timeout=2)
        await until(lambda: generator.closed)

    loop_now = asyncio.get_running_loop().time()
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert generator.deadlines[0] <= loop_now


async def test_no_chat_takes_longer_than_the_gateway_allows():
    generator = ScriptedGenerator([Stall(3600.0)])
    async with running(FakeGuard(), generator, max_chat_seconds=0.2) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking())

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
