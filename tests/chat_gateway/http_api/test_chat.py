"""The real OpenAI client against the running gateway."""

import json

from chat_gateway.chat import (
    Channel,
    ChoiceFinished,
    FinishReason,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
)
from chat_gateway.policy import GatewayPolicy
from tests.chat_gateway.fakes import UNSAFE_PHRASE, ScriptedGenerator, answer
from tests.chat_gateway.http_api.serving import CHAT, UNSAFE_PROMPT, running_gateway, streamed

LONG_SAFE = "The sea is wide and blue. " * 8
REFUSAL = GatewayPolicy().refusal


def content_of(chunks, choice=0):
    return "".join(
        each.delta.content or ""
        for chunk in chunks
        for each in chunk.choices
        if each.index == choice
    )


def ends(chunks):
    return {
        each.index: each.finish_reason
        for chunk in chunks
        for each in chunk.choices
        if each.finish_reason
    }


async def test_a_safe_prompt_gets_its_answer():
    script = [*answer("Hello there."), TokenUsage(7, 3)]
    async with running_gateway(generator=ScriptedGenerator(script)) as gateway:
        completion = await gateway.openai.chat.completions.create(**CHAT)
    (choice,) = completion.choices
    assert choice.message.content == "Hello there."
    assert choice.message.refusal is None
    assert choice.finish_reason == "stop"
    assert completion.usage.total_tokens == 10
    assert completion.moderation is None


async def test_a_stream_says_the_same_and_counts_when_asked():
    script = [*answer(LONG_SAFE), TokenUsage(7, 3)]
    async with running_gateway(generator=ScriptedGenerator(script)) as gateway:
        chunks = await streamed(gateway.openai, stream_options={"include_usage": True})
    assert content_of(chunks) == LONG_SAFE
    assert chunks[0].choices[0].delta.role == "assistant"
    assert ends(chunks) == {0: "stop"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == 7
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_a_stream_ends_with_done_and_counts_nothing_unasked():
    script = [*answer("Hello."), TokenUsage(7, 3)]
    async with running_gateway(generator=ScriptedGenerator(script)) as gateway:
        *events, last = await gateway.events(CHAT)
    assert last == "[DONE]"
    assert not any("usage" in json.loads(event) for event in events)


async def test_a_blocked_prompt_is_refused_and_never_answered():
    generator = ScriptedGenerator(answer("Sure!"))
    async with running_gateway(generator=generator) as gateway:
        completion = await gateway.openai.chat.completions.create(
            model="scripted", messages=UNSAFE_PROMPT
        )
        chunks = await streamed(gateway.openai, messages=UNSAFE_PROMPT)
    (choice,) = completion.choices
    assert choice.finish_reason == "content_filter"
    assert choice.message.content == choice.message.refusal == REFUSAL
    assert content_of(chunks) == REFUSAL
    assert ends(chunks) == {0: "content_filter"}
    assert generator.requests == []


async def test_an_answer_that_turns_unsafe_is_cut_before_the_unsafe_text():
    generator = ScriptedGenerator(answer(f"{LONG_SAFE}Now {UNSAFE_PHRASE} like this."))
    async with running_gateway(generator=generator) as gateway:
        events = await gateway.events(CHAT)
        chunks = await streamed(gateway.openai)
        completion = await gateway.openai.chat.completions.create(**CHAT)
    assert UNSAFE_PHRASE not in "".join(events)
    assert content_of(chunks)
    assert f"{LONG_SAFE}Now ".startswith(content_of(chunks))
    refusals = [each.delta.refusal for chunk in chunks for each in chunk.choices]
    assert REFUSAL in refusals
    assert ends(chunks) == {0: "content_filter"}
    assert events[-1] == "[DONE]"
    assert completion.choices[0].message.content == REFUSAL


async def test_every_choice_is_judged_on_its_own():
    script = [
        *answer("A harmless answer.", choice=0)[:-1],
        *answer(f"First, {UNSAFE_PHRASE}.", choice=1)[:-1],
        ChoiceFinished(0, FinishReason.STOP),
        ChoiceFinished(1, FinishReason.STOP),
    ]
    async with running_gateway(generator=ScriptedGenerator(script)) as gateway:
        completion = await gateway.openai.chat.completions.create(**CHAT, n=2)
        chunks = await streamed(gateway.openai, n=2)
    first, second = completion.choices
    assert (first.message.content, first.finish_reason) == ("A harmless answer.", "stop")
    assert (second.message.content, second.finish_reason) == (REFUSAL, "content_filter")
    assert content_of(chunks, 0) == "A harmless answer."
    assert ends(chunks) == {0: "stop", 1: "content_filter"}


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


async def test_tool_calls_and_reasoning_come_through():
    script = [
        TextDelta(0, "They want the weather.", Channel.REASONING),
        ToolCallDelta(0, 0, '{"city":', id="call_1", name="weather"),
        ToolCallDelta(0, 0, '"Oslo"}'),
        ChoiceFinished(0, FinishReason.TOOL_CALLS),
    ]
    generator = ScriptedGenerator(script)
    async with running_gateway(generator=generator) as gateway:
        completion = await gateway.openai.chat.completions.create(**CHAT, tools=TOOLS)
        chunks = await streamed(gateway.openai, tools=TOOLS, tool_choice="auto")
    (choice,) = completion.choices
    (call,) = choice.message.tool_calls
    assert (call.id, call.type, call.function.name) == ("call_1", "function", "weather")
    assert call.function.arguments == '{"city":"Oslo"}'
    assert choice.message.content is None
    assert choice.message.reasoning_content == "They want the weather."
    assert choice.finish_reason == "tool_calls"
    pieces = [
        call.function.arguments
        for chunk in chunks
        for each in chunk.choices
        for call in each.delta.tool_calls or ()
    ]
    assert "".join(pieces) == '{"city":"Oslo"}'
    assert generator.requests[0].tools == tuple(TOOLS)
    assert generator.requests[1].tool_choice == "auto"


async def test_the_request_reaches_the_generator_whole():
    generator = ScriptedGenerator(answer("Cold."))
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "Oslo?"}],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "-3"},
    ]
    async with running_gateway(generator=generator) as gateway:
        await gateway.openai.chat.completions.create(
            model="scripted",
            messages=messages,
            temperature=0.5,
            top_p=0.8,
            max_completion_tokens=20,
            stop="END",
            seed=7,
            tools=TOOLS,
            user="someone",
            metadata={"team": "a"},
            store=True,
        )
    (request,) = generator.requests
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[1].content == "And\nOslo?"
    assert request.messages[2].tool_calls[0].name == "weather"
    assert request.messages[3].tool_call_id == "c1"
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.5, 0.8, 20)
    assert (sampling.stop, sampling.seed, sampling.num_choices) == (("END",), 7, 1)


async def test_models_are_listed():
    async with running_gateway() as gateway:
        models = await gateway.openai.models.list()
    assert [model.id for model in models.data] == ["scripted"]


async def test_a_client_may_name_its_request():
    async with running_gateway() as gateway:
        named = await gateway.post(json=CHAT, headers={"x-request-id": "abc-1"})
        unnamed = await gateway.post(json=CHAT)
        odd = await gateway.post(json=CHAT, headers={"x-request-id": "a b"})
    assert named.headers["x-request-id"] == "abc-1"
    assert len(unnamed.headers["x-request-id"]) == 32
    assert odd.status_code == 400
    assert odd.headers["x-request-id"] != "a b"
