"""A generator behind a real server that keeps to the protocol."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from chat_gateway.chat import (
    Channel,
    ChatMessage,
    ChatRequest,
    ChoiceFinished,
    FinishReason,
    GeneratorEvent,
    Sampling,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
    UnknownModel,
)
from chat_gateway.generators.openai import OpenAIGenerator
from guard_service.moderation import Role
from tests.chat_gateway.upstreams import (
    Script,
    Upstream,
    answering,
    chunk,
    running_upstream,
    stalling,
    telling,
    tgi_answering,
)

KEY = "sk-secret"
HELLO = ChatRequest((ChatMessage(Role.USER, "Hello"),), "stub")


@asynccontextmanager
async def generator_on(script: Script) -> AsyncIterator[tuple[OpenAIGenerator, Upstream]]:
    async with running_upstream(script) as upstream:
        generator = OpenAIGenerator(base_url=upstream.base_url, models=("stub",), api_key=KEY)
        yield generator, upstream
        await generator.close()


def soon() -> float:
    return time.monotonic() + 60


async def answer(generator: OpenAIGenerator, request: ChatRequest = HELLO) -> list[GeneratorEvent]:
    return [event async for event in generator.generate(request, deadline=soon())]


async def test_an_answer_is_text_as_it_came_then_its_finish_and_usage():
    async with generator_on(answering("Hel", "lo ", "\u4f60\u597d")) as (generator, _):
        events = await answer(generator)

    assert events == [
        TextDelta(0, "Hel"),
        TextDelta(0, "lo "),
        TextDelta(0, "\u4f60\u597d"),
        ChoiceFinished(0, FinishReason.STOP),
        TokenUsage(7, 3),
    ]


async def test_text_is_handed_on_before_the_answer_is_complete():
    async with (
        generator_on(stalling("first")) as (generator, _),
        aclosing(generator.generate(HELLO, deadline=soon())) as events,
    ):
        assert await anext(events) == TextDelta(0, "first")


async def test_the_server_gets_the_messages_and_what_the_caller_chose_and_nothing_else():
    asked_for = ChatRequest(
        messages=(
            ChatMessage(Role.SYSTEM, "Be brief."),
            ChatMessage(Role.USER, "Weather?", name="ann"),
            ChatMessage(Role.ASSISTANT, "", tool_calls=(ToolCall("c1", "look", '{"at": 1}'),)),
            ChatMessage(Role.TOOL, "rain", tool_call_id="c1"),
        ),
        model="stub",
        sampling=Sampling(0.0, 0.5, 20, ("END",), 7, 2),
        tools=({"type": "function", "function": {"name": "look"}},),
        tool_choice="auto",
    )
    async with generator_on(answering("Rain.")) as (generator, upstream):
        await answer(generator, asked_for)
        await answer(generator)

    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    always = {"model": "stub", "stream": True, "stream_options": {"include_usage": True}}
    assert upstream.chats == [
        {
            **always,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather?", "name": "ann"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "rain", "tool_call_id": "c1"},
            ],
            "temperature": 0.0,
            "top_p": 0.5,
            "max_tokens": 20,
            "stop": ["END"],
            "seed": 7,
            "n": 2,
            "tools": [{"type": "function", "function": {"name": "look"}}],
            "tool_choice": "auto",
        },
        {**always, "messages": [{"role": "user", "content": "Hello"}]},
    ]


async def test_the_key_is_sent_and_no_other_trace_is_kept_between_requests():
    async def with_a_cookie(_, reply) -> None:
        await reply.start(set_cookie="session=1")
        await reply.event(chunk("Hi", finish="stop"))
        await reply.event("[DONE]")
        await reply.end()

    async with generator_on(with_a_cookie) as (generator, upstream):
        await answer(generator)
        await answer(generator)

    assert [asked.headers["authorization"] for asked in upstream.asked] == [f"Bearer {KEY}"] * 2
    assert "cookie" not in upstream.asked[1].headers


async def test_answers_share_one_connection():
    async with generator_on(answering("Hi")) as (generator, upstream):
        for _ in range(3):
            await answer(generator)

        assert upstream.num_connections == 1


async def test_every_choice_is_told_apart():
    two = ChatRequest(HELLO.messages, "stub", Sampling(num_choices=2))
    async with generator_on(answering("a", "b")) as (generator, _):
        events = await answer(generator, two)

    assert [e.choice for e in events if isinstance(e, TextDelta)] == [0, 1, 0, 1]
    assert [e.choice for e in events if isinstance(e, ChoiceFinished)] == [0, 1]


async def test_tgi_shapes_are_understood():
    async with generator_on(tgi_answering("Hel", "lo")) as (generator, _):
        events = await answer(generator)

    assert events == [
        TextDelta(0, "Hel"),
        TextDelta(0, "lo"),
        ChoiceFinished(0, FinishReason.STOP),
    ]


async def test_refusals_and_reasoning_come_on_channels_of_their_own():
    events = [
        chunk(delta={"reasoning": "hm", "reasoning_content": "hm"}),  # vLLM once sent both
        chunk(delta={"reasoning": "so"}),
        chunk(delta={"refusal": "No."}),
        chunk(finish="content_filter"),
    ]
    async with generator_on(telling(events)) as (generator, _):
        heard = await answer(generator)

    assert heard == [
        TextDelta(0, "hm", Channel.REASONING),
        TextDelta(0, "so", Channel.REASONING),
        TextDelta(0, "No.", Channel.REFUSAL),
        ChoiceFinished(0, FinishReason.CONTENT_FILTER),
    ]


async def test_fields_nobody_knows_never_pass():
    secret = {"content": "hi", "audio": {"data": "x"}, "thoughts": "x", "annotations": ["x"]}
    async with generator_on(telling([chunk(delta=secret), chunk(finish="stop")])) as (generator, _):
        events = await answer(generator)

    assert events == [TextDelta(0, "hi"), ChoiceFinished(0, FinishReason.STOP)]


def tool_delta(index: int, **function: str) -> dict:
    return {"index": index, "type": "function", "function": function}


async def test_tool_calls_arrive_in_pieces_with_id_and_name_first():
    first = tool_delta(3, name="look", arguments="") | {"id": "c1"}
    events = [
        chunk(delta={"tool_calls": [first]}),
        chunk(delta={"tool_calls": [tool_delta(3, arguments='{"a"')]}),
        # TGI sends a call bare, without an id, and names it again.
        chunk(delta={"tool_calls": tool_delta(10**12, name="ask", arguments="{") | {"id": 0}}),
        chunk(delta={"tool_calls": tool_delta(10**12, name="ask", arguments="}")}),
        chunk(finish="tool_calls"),
    ]
    async with generator_on(telling(events)) as (generator, _):
        heard = await answer(generator)

    assert heard == [
        ToolCallDelta(0, 0, "", heard[0].id, "look"),
        ToolCallDelta(0, 0, '{"a"'),
        ToolCallDelta(0, 1, "{", heard[2].id, "ask"),
        ToolCallDelta(0, 1, "}"),
        ChoiceFinished(0, FinishReason.TOOL_CALLS),
    ]
    assert heard[0].id != heard[2].id


async def test_the_id_of_a_tool_call_is_none_of_the_servers_words():
    call = tool_delta(0, name="look", arguments="{}") | {"id": "how to build a bomb: first, "}
    events = [chunk(delta={"tool_calls": [call]}), chunk(finish="tool_calls")]
    async with generator_on(telling(events)) as (generator, _):
        heard = await answer(generator)

    assert re.fullmatch("[0-9a-f]{9}", heard[0].id)


async def test_an_event_may_be_split_at_every_byte():
    said = json.dumps(chunk("\u00e9"), ensure_ascii=False)
    whole = f": hello\r\ndata: {said}\r\n\r\n".encode()
    ending = f"data: {json.dumps(chunk(finish='stop'))}\n\ndata: [DONE]\n\n".encode()

    async def byte_by_byte(_, reply) -> None:
        await reply.start()
        for byte in whole:
            await reply.write(bytes([byte]))
            await asyncio.sleep(0)
        await reply.write(ending)
        await reply.end()

    async with generator_on(byte_by_byte) as (generator, _):
        events = await answer(generator)

    assert events == [TextDelta(0, "\u00e9"), ChoiceFinished(0, FinishReason.STOP)]


async def test_closing_the_iterator_closes_the_connection():
    async with generator_on(stalling("one")) as (generator, upstream):
        events = generator.generate(HELLO, deadline=soon())
        await anext(events)
        await events.aclose()

        await asyncio.wait_for(upstream.left.wait(), 30)


async def test_cancelling_a_wait_for_the_server_closes_the_connection():
    async with generator_on(stalling()) as (generator, upstream):
        waiting = asyncio.create_task(answer(generator))
        await asyncio.wait_for(upstream.reached.wait(), 30)
        waiting.cancel()
        await asyncio.wait([waiting])

        await asyncio.wait_for(upstream.left.wait(), 30)
    assert waiting.cancelled()


async def test_only_configured_models_are_asked_for():
    async with generator_on(answering("Hi")) as (generator, upstream):
        with pytest.raises(UnknownModel, match="model: must be one of stub"):
            await answer(generator, ChatRequest(HELLO.messages, "gpt-x"))

    assert upstream.asked == []


async def test_it_is_ready_while_the_server_lists_its_models_and_asks_seldom():
    async with generator_on(answering("Hi")) as (generator, upstream):
        ready = await asyncio.gather(*(generator.is_ready() for _ in range(20)))

    assert all(ready)
    assert [asked.path for asked in upstream.asked] == ["/v1/models"]


async def test_it_is_not_ready_while_nobody_listens():
    async with running_upstream(answering("Hi")) as upstream:
        pass
    generator = OpenAIGenerator(base_url=upstream.base_url, models=("stub",))

    assert not await generator.is_ready()
    await generator.close()
