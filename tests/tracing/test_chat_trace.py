"""One request is one trace: from its caller through gateway, guard, engine and generator."""

import asyncio

import grpc
import pytest

from chat_gateway.v1 import chat_pb2, chat_pb2_grpc
from guard_service.client import GuardClient
from guard_service.moderation import InvalidRequest, Message, Role
from guard_service.v1 import guard_pb2
from tests.fakes import UNSAFE_WORD, FakeEngine
from tests.tracing.collector import Received, Trace
from tests.tracing.services import (
    CHAT,
    MODERATE,
    STORY,
    STREAM,
    Caller,
    running_guard,
    running_services,
    saying,
)

ROOT = f"POST {CHAT}"
STAGES = ("tokenise", "queue", "inference")
WHOLE = (
    ROOT,
    "chat",
    "chat stub",
    *(MODERATE, STREAM) * 2,
    *STAGES * 2,
)
"""Spans of a chat that is answered: each question to the guard has one on either side."""


def served(trace: Trace, name: str) -> Received:
    return trace.one(name, "server")


async def test_a_chat_is_one_trace_from_its_caller_to_engine_and_generator(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        response = await services.chat(caller=caller)
        trace = await collector.trace(caller.trace_id, *WHOLE)

    assert response.json()["choices"][0]["message"]["content"] == STORY
    assert served(trace, ROOT).parent_id == caller.span_id
    for name in (MODERATE, STREAM):
        asked, answered = trace.one(name, "client"), served(trace, name)
        assert (asked.service, answered.service) == ("chat-gateway", "guard-service")
        assert trace.path_to(answered) == [ROOT, "chat", name, name]
        assert answered.parent_id == asked.span_id
    generator = trace.one("chat stub", "client")
    assert trace.path_to(generator) == [ROOT, "chat", "chat stub"]
    inside = {tuple(trace.path_to(each)) for each in trace.spans if each.kind == "internal"}
    assert inside == {
        (ROOT, "chat"),
        *((ROOT, "chat", name, name, stage) for name in (MODERATE, STREAM) for stage in STAGES),
    }
    [asked] = [each for each in services.upstream.asked if each.method == "POST"]
    assert asked.headers["traceparent"] == f"00-{caller.trace_id}-{generator.span_id}-01"


async def test_spans_say_what_was_asked_decided_and_spent(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        response = await services.chat(caller=caller)
        trace = await collector.trace(caller.trace_id, *WHOLE)

    root, chat = served(trace, ROOT), trace.one("chat")
    assert root.attributes["http.route"] == CHAT
    assert root.attributes["http.response.status_code"] == 200
    ids = {
        each.attributes["moderation.request_id"]
        for each in trace.spans
        if each.kind in {"server", "client"} and each.name != "chat stub"
    }
    assert ids == {response.headers["x-request-id"]}
    assert chat.attributes["moderation.outcome"] == "answered"
    assert chat.attributes["moderation.released_characters"] == len(STORY)
    decisions = chat.told("decision")
    assert [each["moderation.action"] for each in decisions] == ["passed", "passed"]
    assert [each["moderation.phase"] for each in decisions] == ["prompt", "response"]
    verdict = trace.one(MODERATE, "client").attributes
    assert (verdict["moderation.unsafe"], verdict["moderation.categories"]) == (False, [])
    assert verdict["moderation.unsafe_probability"] == pytest.approx(0.1)
    assert verdict["moderation.policy.id"] == "llama-guard-2"
    assert len(verdict["moderation.policy.digest"]) == 64
    assert served(trace, MODERATE).attributes["rpc.grpc.status_code"] == 0
    generator = trace.one("chat stub").attributes
    assert generator["gen_ai.response.finish_reasons"] == ["stop"]
    assert generator["moderation.characters"] == len(STORY)
    assert generator["server.address"] == "127.0.0.1"
    assert not any(each.is_error for each in trace.spans)


async def test_the_service_and_its_instance_are_named(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        await services.chat(caller=caller)
        trace = await collector.trace(caller.trace_id, *WHOLE)

    for service in ("guard-service", "chat-gateway"):
        [instance] = {
            each.resource["service.instance.id"] for each in trace.spans if each.service == service
        }
        assert instance
        [version] = {
            each.resource["service.version"] for each in trace.spans if each.service == service
        }
        assert version


async def test_a_streamed_answer_tells_of_its_checkpoints(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        response = await services.chat(caller=caller, stream=True)
        trace = await collector.trace(caller.trace_id, *WHOLE)

    assert response.text.endswith("data: [DONE]\n\n")
    checkpoints = trace.one(STREAM, "client").told("checkpoint")
    covered = [each["moderation.characters"] for each in checkpoints]
    assert covered == sorted(covered)
    assert covered[-1] == len(STORY)
    assert [each["moderation.final"] for each in checkpoints][-1] is True
    verdicts = served(trace, STREAM).told("verdict")
    assert len(verdicts) == len(checkpoints)
    assert len(trace.one("chat").told("first text released")) == 1


async def test_a_blocked_prompt_has_no_generator_and_is_no_failure(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        response = await services.chat(f"How do I make a {UNSAFE_WORD} ?", caller)
        trace = await collector.trace(caller.trace_id, ROOT, "chat", MODERATE, MODERATE)

    assert response.json()["choices"][0]["finish_reason"] == "content_filter"
    assert {each.name for each in trace.spans} == {*(ROOT, "chat", MODERATE, *STAGES)}
    chat = trace.one("chat")
    assert chat.attributes["moderation.outcome"] == "prompt_blocked"
    assert chat.attributes["moderation.categories"] == ["S1"]
    [decision] = chat.told("decision")
    assert decision["moderation.action"] == "blocked"
    assert decision["moderation.unsafe_probability"] == pytest.approx(0.9)
    assert not any(each.is_error for each in trace.spans)


async def test_a_stopped_answer_says_where_it_was_stopped(collector):
    caller = Caller()
    script = saying(f"{STORY} {UNSAFE_WORD} {STORY}")
    async with running_services(collector.endpoint, script) as services:
        await services.chat(caller=caller, stream=True)
        trace = await collector.trace(caller.trace_id, ROOT, "chat", *(STREAM,) * 2, "chat stub")

    chat = trace.one("chat")
    assert chat.attributes["moderation.outcome"] == "response_blocked"
    assert chat.attributes["moderation.withheld_characters"] > 0
    assert [each["moderation.action"] for each in chat.told("decision")] == ["passed", "blocked"]
    last = trace.one(STREAM, "client").told("checkpoint")[-1]
    assert last["moderation.unsafe"] is True
    assert last["moderation.characters"] > len(STORY)
    assert not any(each.is_error for each in trace.spans if each.service == "chat-gateway")


async def test_failures_bear_fixed_names(collector):
    def broken(text: str, num_categories: int) -> None:  # noqa: ARG001
        raise ValueError(text)

    caller = Caller()
    engine = FakeEngine()
    async with running_services(collector.endpoint, engine=engine) as services:
        engine.judge = broken
        response = await services.chat(caller=caller)
        trace = await collector.trace(caller.trace_id, ROOT, "chat", MODERATE, MODERATE)

    assert response.status_code == 503
    assert (served(trace, ROOT).is_error, served(trace, ROOT).status) == (True, "503")
    assert trace.one("chat").attributes["error.type"] == "guard_unavailable"
    assert trace.one(MODERATE, "client").status == "JudgementFailed"
    assert served(trace, MODERATE).status == "INTERNAL"
    assert served(trace, MODERATE).attributes["rpc.grpc.status_code"] == 13


async def test_a_chat_over_grpc_is_one_trace_too(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        assert services.front.grpc is not None
        target = f"127.0.0.1:{services.front.grpc.port}"
        async with grpc.aio.insecure_channel(target) as channel:
            prompt = chat_pb2.Prompt(
                messages=[chat_pb2.Message(role=guard_pb2.ROLE_USER, content="Tell me a story")]
            )
            replies = chat_pb2_grpc.ChatServiceStub(channel).ChatStream(
                chat_pb2.ChatStreamRequest(prompt=prompt, request_id="r-1"),
                metadata=(("traceparent", caller.traceparent),),
            )
            async for _ in replies:
                pass
        name = "chat_gateway.v1.ChatService/ChatStream"
        trace = await collector.trace(caller.trace_id, name, *WHOLE[1:])

    assert served(trace, name).parent_id == caller.span_id
    assert served(trace, name).attributes["moderation.request_id"] == "r-1"
    assert trace.path_to(served(trace, STREAM)) == [name, "chat", STREAM, STREAM]


async def test_a_moderation_is_a_trace_without_a_chat(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        await services.http.post(
            "/v1/moderations",
            json={"input": "Hello"},
            headers={"traceparent": caller.traceparent},
        )
        name = "POST /v1/moderations"
        trace = await collector.trace(caller.trace_id, name, MODERATE, MODERATE)

    assert trace.path_to(served(trace, MODERATE)) == [name, MODERATE, MODERATE]


async def test_each_request_of_a_batch_tells_how_many_shared_it(collector):
    engine = FakeEngine()
    async with (
        running_guard(collector.endpoint, engine=engine) as guard,
        GuardClient(guard.target) as client,
    ):
        engine.hold()
        engine.started.clear()
        first = asyncio.create_task(client.moderate((Message(Role.USER, "one"),)))
        await asyncio.to_thread(engine.started.wait, 60)
        others = [
            asyncio.create_task(client.moderate((Message(Role.USER, "two"),))) for _ in range(3)
        ]
        while guard.server._batcher.num_queued_items < 3:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        engine.release()
        await asyncio.gather(first, *others)
        await asyncio.to_thread(
            collector.wait, lambda: [each.name for each in collector.spans].count(MODERATE) >= 4
        )

    shared = sorted(
        each.attributes["moderation.batch.items"]
        for each in collector.spans
        if each.name == "inference"
    )
    assert shared == [1, 3, 3, 3]
    queued = [each.seconds for each in collector.spans if each.name == "queue"]
    assert len(queued) == 4
    assert all(seconds >= 0 for seconds in queued)


async def test_a_batch_call_tells_of_its_verdicts_and_has_bounds(collector):
    async with (
        running_guard(collector.endpoint) as guard,
        GuardClient(guard.target) as client,
    ):
        texts = ["Hello", f"a {UNSAFE_WORD}"] * 20
        await client.moderate_batch([(Message(Role.USER, text),) for text in texts])
        name = f"{MODERATE}Batch"
        await asyncio.to_thread(
            collector.wait, lambda: any(each.name == name for each in collector.spans)
        )

    [call] = [each for each in collector.spans if each.name == name]
    assert call.attributes["moderation.num_verdicts"] == 40
    assert call.attributes["moderation.num_unsafe"] == 20
    assert "moderation.unsafe" not in call.attributes
    assert len(call.told("verdict")) == 40
    stages = [each for each in collector.spans if each.parent_id == call.span_id]
    assert len(stages) == 48


async def test_a_refused_request_is_the_callers_failure_not_the_guards(collector):
    async with (
        running_guard(collector.endpoint) as guard,
        GuardClient(guard.target) as client,
    ):
        with pytest.raises(InvalidRequest):
            await client.moderate((Message(Role.USER, " "),), request_id="r-2")
        await asyncio.to_thread(collector.wait, lambda: bool(collector.spans))

    [call] = collector.spans
    assert call.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert not call.is_error


async def test_health_info_and_the_page_have_no_spans(collector):
    caller = Caller()
    async with running_services(collector.endpoint) as services:
        await services.http.get("/health/ready")
        await services.http.get("/")
        await services.http.get("/some/users/words")
        await services.chat(caller=caller)
        await collector.trace(caller.trace_id, *WHOLE)

    assert {each.trace_id for each in collector.spans} == {caller.trace_id}
