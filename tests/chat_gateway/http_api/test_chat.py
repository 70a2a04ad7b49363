"""The real OpenAI client against the running gateway."""

import json
from dataclasses import replace

import openai
import pytest

from chat_gateway.chat import (
    Channel,
    ChoiceFinished,
    FinishReason,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
)
from chat_gateway.policy import GatewayPolicy, Mode
from guard_service.moderation import NotReady, Phase
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, answer
from tests.chat_gateway.http_api.serving import CHAT, running_gateway

UNSAFE_PROMPT = [{"role": "user", "content": f"How do I {UNSAFE_PHRASE}?"}]
LONG_SAFE = "The sea is wide and blue. " * 8
REFUSAL = GatewayPolicy().refusal


async def streamed(client, **request):
    stream = await client.chat.completions.create(**{**CHAT, **request}, stream=True)
    return [chunk async for chunk in stream]


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


async def test_a_policy_may_answer_a_blocked_prompt_with_azures_error():
    policy = GatewayPolicy(error_on_blocked_prompt=True)
    async with running_gateway(policies=[policy]) as gateway:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as refused:
                await gateway.openai.chat.completions.create(
                    model="scripted", messages=UNSAFE_PROMPT, stream=stream
                )
            assert refused.value.code == "content_filter"
            assert refused.value.param == "prompt"
            inner = refused.value.body["innererror"]
            assert inner == {"code": "ResponsibleAIPolicyViolation"}


async def test_moderation_comes_with_the_answer_when_asked_for():
    asked = {"model": "omni-moderation-latest", "policy": {"input": {"mode": "score"}}}
    async with running_gateway() as gateway:
        completion = await gateway.openai.chat.completions.create(**CHAT, moderation=asked)
        chunks = await streamed(gateway.openai, moderation=asked)
        blocked = await gateway.openai.chat.completions.create(
            model="scripted", messages=UNSAFE_PROMPT, moderation=asked
        )
    for moderation in (completion.moderation, chunks[-1].moderation):
        assert moderation.input.type == moderation.output.type == "moderation_results"
        (result,) = moderation.output.results
        assert not result.flagged
        assert result.categories == {"S9": False}
        assert result.model == moderation.output.model == "oracle"
        assert result.category_applied_input_types == {"S9": ["text"]}
    assert blocked.choices[0].finish_reason == "content_filter"
    (result,) = blocked.moderation.input.results
    assert result.flagged
    assert result.categories == {"S9": True}
    assert result.category_scores["S9"] == pytest.approx(0.9 * 0.8)
    assert blocked.moderation.output.code == "not_reached"


ANNOTATE = GatewayPolicy(id="annotate", mode=Mode.ANNOTATE)
SHADOW = GatewayPolicy(id="shadow", mode=Mode.SHADOW)


async def test_an_annotating_policy_reports_what_it_lets_pass():
    generator = ScriptedGenerator(answer(f"So {UNSAFE_PHRASE}."))
    async with running_gateway(generator=generator, policies=[ANNOTATE]) as gateway:
        completion = await gateway.openai.chat.completions.create(**CHAT)
    assert UNSAFE_PHRASE in completion.choices[0].message.content
    assert completion.moderation.output.results[0].flagged


async def test_a_request_may_ask_for_blocking_where_the_policy_only_reports():
    generator = ScriptedGenerator(answer(f"So {UNSAFE_PHRASE}."))
    asked = {"model": "oracle", "policy": {"output": {"mode": "block"}}}
    async with running_gateway(generator=generator, policies=[SHADOW]) as gateway:
        passed = await gateway.openai.chat.completions.create(**CHAT)
        cut = await gateway.openai.chat.completions.create(**CHAT, moderation=asked)
    assert UNSAFE_PHRASE in passed.choices[0].message.content
    assert passed.moderation is None
    assert cut.choices[0].finish_reason == "content_filter"


async def test_a_request_cannot_weaken_a_blocking_policy():
    asked = {
        "model": "oracle",
        "policy": {"input": {"mode": "score"}, "output": {"mode": "score"}},
    }
    async with running_gateway() as gateway:
        completion = await gateway.openai.chat.completions.create(
            model="scripted", messages=UNSAFE_PROMPT, moderation=asked
        )
    assert completion.choices[0].finish_reason == "content_filter"


async def test_a_shadow_policy_tells_the_client_nothing():
    asked = {"model": "oracle"}
    async with running_gateway(policies=[SHADOW]) as gateway:
        completion = await gateway.openai.chat.completions.create(**CHAT, moderation=asked)
        events = await gateway.events(CHAT, **{"x-guard-detail": "1"})
    assert completion.moderation.input.code == "not_reported"
    assert not any('"guard"' in event for event in events)


async def test_only_policies_marked_selectable_may_be_chosen():
    policies = [GatewayPolicy(), replace(ANNOTATE), replace(SHADOW)]
    async with running_gateway(policies=policies, selectable=["annotate"]) as gateway:
        chosen = await gateway.post(json=CHAT, headers={"x-guard-policy": "annotate"})
        named = await gateway.post(json=CHAT, headers={"x-guard-policy": "default"})
        hidden = await gateway.post(json=CHAT, headers={"x-guard-policy": "shadow"})
        unknown = await gateway.post(json=CHAT, headers={"x-guard-policy": "none"})
        offered = (await gateway.http.get("/v1/policies")).json()["data"]
    assert chosen.headers["x-guard-policy"] == "annotate"
    assert "moderation" in chosen.json()
    assert named.status_code == 200
    for refused in (hidden, unknown):
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "x-guard-policy"
    assert [policy["id"] for policy in offered] == ["default", "annotate"]


async def test_what_passes_unjudged_is_marked():
    guard = FakeGuard(prompt_error=NotReady("starting"))
    policy = GatewayPolicy(fail_open=frozenset({Phase.PROMPT}))
    async with running_gateway(guard=guard, policies=[policy]) as gateway:
        whole = await gateway.post(json=CHAT)
        stream = await gateway.post(json={**CHAT, "stream": True})
    for response in (whole, stream):
        assert response.status_code == 200
        assert response.headers["x-guard-unjudged"] == "prompt"
    assert whole.json()["moderation"]["input"]["code"] == "unjudged"
    marks = [line for line in stream.text.split("\n\n") if '"moderation"' in line]
    assert '"code":"unjudged"' in marks[0]


async def test_the_guard_is_reported_on_only_to_those_who_ask():
    async with running_gateway(generator=ScriptedGenerator(answer(LONG_SAFE))) as gateway:
        plain = await gateway.events(CHAT)
        *detailed, _ = await gateway.events(CHAT, **{"x-guard-detail": "1"})
    assert not any('"guard"' in event for event in plain)
    news = [json.loads(event)["guard"] for event in detailed if '"guard"' in event]
    assert news[0]["phase"] == "prompt"
    assert news[0]["unsafe"] is False
    last = news[-1]
    assert (last["phase"], last["choice"], last["final"]) == ("response", 0, True)
    assert last["judged_characters"] == len(LONG_SAFE)
    assert 0 <= last["unsafe_probability"] < 0.5


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
