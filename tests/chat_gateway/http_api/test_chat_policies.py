"""What policies, and requests about them, make of a chat: the real OpenAI client."""

import json
from dataclasses import replace

import openai
import pytest

from chat_gateway.observer import Outcome
from chat_gateway.policy import GatewayPolicy, Mode
from guard_service.moderation import NotReady, Phase
from tests.chat_gateway.conversing import Journal
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, answer
from tests.chat_gateway.http_api.serving import CHAT, UNSAFE_PROMPT, running_gateway, streamed

LONG_SAFE = "The sea is wide and blue. " * 8


async def test_a_policy_may_answer_a_blocked_prompt_with_azures_error():
    policy, journal = GatewayPolicy(error_on_blocked_prompt=True), Journal()
    async with running_gateway(policies=[policy], observer=journal) as gateway:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as refused:
                await gateway.openai.chat.completions.create(
                    model="scripted", messages=UNSAFE_PROMPT, stream=stream
                )
            assert refused.value.code == "content_filter"
            assert refused.value.param == "prompt"
            inner = refused.value.body["innererror"]
            assert inner == {"code": "ResponsibleAIPolicyViolation"}
    assert journal.outcomes == [Outcome.PROMPT_BLOCKED] * 2


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


async def test_what_is_held_is_told_to_those_who_ask_for_that_and_to_nobody_else():
    async with running_gateway(generator=ScriptedGenerator(answer(LONG_SAFE))) as gateway:
        plain = await gateway.events(CHAT)
        verdicts = await gateway.events(CHAT, **{"x-guard-detail": "1"})
        *detailed, _ = await gateway.events(CHAT, **{"x-guard-detail": "2"})
        whole = await gateway.post(json=CHAT, headers={"x-guard-detail": "2"})
    assert not any('"held"' in event for event in (*plain, *verdicts, whole.text))
    chunks = [json.loads(event) for event in detailed]
    held = [chunk["held"] for chunk in chunks if "held" in chunk]
    assert all(chunk["choices"] == [] for chunk in chunks if "held" in chunk)
    assert max(each["characters"] for each in held) > 0
    assert (held[-1]["choice"], held[-1]["characters"]) == (0, 0)
    assert held[-1]["first_delay_ms"] is not None
    assert held[-1]["end_delay_ms"] is not None


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


async def test_a_detail_that_there_is_not_is_refused():
    async with running_gateway() as gateway:
        refused = await gateway.post(json=CHAT, headers={"x-guard-detail": "3"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "x-guard-detail"
