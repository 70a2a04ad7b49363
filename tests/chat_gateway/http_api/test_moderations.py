"""`POST /v1/moderations` through the real OpenAI client."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from chat_gateway.audit import AuditTrail, digest_of
from chat_gateway.http_api.category_names import OPENAI_KEYS, CategoryNames
from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.http_api.moderation_result import moderation_result
from chat_gateway.metrics import Metrics
from chat_gateway.observer import NullObserver
from chat_gateway.observers import Observers
from chat_gateway.policy import GatewayPolicy
from chat_gateway.text_moderation import TextModeration
from guard_service.moderation import (
    CategoryScore,
    DeadlineExceeded,
    InvalidRequest,
    JudgementFailed,
    NotReady,
    Overloaded,
    Verdict,
)
from guard_service.policy import default_policy
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, verdict
from tests.chat_gateway.grpc_server.serving import until
from tests.chat_gateway.http_api.serving import running_gateway

KEY = b"a key of the right length"
UNSAFE = f"I will {UNSAFE_PHRASE}"


async def test_one_text_gets_one_result_with_native_keys():
    async with running_gateway() as gateway:
        reply = await gateway.openai.moderations.create(input=UNSAFE)
        raw = await gateway.post("/v1/moderations", json={"input": UNSAFE})
    assert reply.model == "oracle"
    assert reply.results[0].flagged
    (result,) = raw.json()["results"]
    assert result["categories"] == {"S9": True}
    assert result["category_scores"]["S9"] == pytest.approx(0.72)
    assert result["category_applied_input_types"] == {"S9": ["text"]}
    assert result["guard"]["category_names"] == {"S9": "Test Hazard"}
    assert result["guard"]["unsafe_probability"] == 0.9
    assert result["guard"]["policy_digest"] == "d" * 64


async def test_a_list_gets_a_result_for_each_text_in_order():
    async with running_gateway() as gateway:
        reply = await gateway.openai.moderations.create(input=["Hello", UNSAFE, "Bye"])
    assert [result.flagged for result in reply.results] == [False, True, False]


async def test_parts_are_one_text():
    guard = FakeGuard()
    parts = [{"type": "text", "text": "I will"}, {"type": "text", "text": "go"}]
    async with running_gateway(guard=guard) as gateway:
        reply = await gateway.openai.moderations.create(input=parts)
    assert len(reply.results) == 1
    assert guard.calls[0].judged_text == "I will\ngo"


async def test_an_image_is_refused():
    parts = [{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]
    async with running_gateway() as gateway:
        with pytest.raises(openai.BadRequestError) as refused:
            await gateway.openai.moderations.create(input=parts)
    assert refused.value.param == "input[0]"


@pytest.mark.parametrize("place", ["field", "query"])
async def test_openais_keys_come_when_asked_for(place):
    option = {"category_names": "openai"}
    extra = {"extra_body": option} if place == "field" else {"extra_query": option}
    async with running_gateway() as gateway:
        reply = await gateway.openai.moderations.create(input=UNSAFE, **extra)
    (result,) = reply.results
    assert result.flagged
    assert result.categories.harassment is False
    assert result.guard["unscored_keys"] == list(OPENAI_KEYS)


def llama_guard_2_verdict(*codes: str) -> Verdict:
    scores = tuple(
        CategoryScore(category.code, category.name, 1 / 11)
        for category in default_policy("llama-guard-2").categories
    )
    listed = tuple(replace(score, probability=0.9) for score in scores if score.code in codes)
    return replace(verdict(0.8), categories=listed, first_category=scores)


@pytest.mark.parametrize(
    ("code", "keys"),
    [
        ("S1", {"violence", "illicit/violent"}),
        ("S2", {"illicit"}),
        ("S3", set()),
        ("S4", {"sexual/minors"}),
        ("S5", set()),
        ("S8", {"illicit/violent"}),
        ("S9", {"hate"}),
        ("S10", {"self-harm", "self-harm/instructions", "self-harm/intent"}),
        ("S11", {"sexual"}),
    ],
)
def test_each_category_has_openais_keys_or_none(code, keys):
    result = moderation_result(llama_guard_2_verdict(code), CategoryNames.OPENAI)
    assert {key for key, violated in result.categories.items() if violated} == keys
    assert all(result.category_scores[key] == pytest.approx(0.72) for key in keys)
    assert result.flagged
    assert set(result.categories) == set(result.category_scores) == set(OPENAI_KEYS)
    assert [each.code for each in result.guard.violated] == [code]


def test_keys_no_category_speaks_for_are_listed():
    result = moderation_result(llama_guard_2_verdict("S1"), CategoryNames.OPENAI)
    assert result.guard.unscored_keys == [
        "harassment",
        "harassment/threatening",
        "hate/threatening",
        "violence/graphic",
    ]
    assert result.category_applied_input_types["harassment"] == []
    assert result.category_applied_input_types["hate"] == ["text"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("conversation.messages[0].content", "must not be empty or blank"), 400),
        (Overloaded("full", 4), 429),
        (NotReady("starting"), 503),
        (JudgementFailed("broken"), 503),
        (DeadlineExceeded("late"), 504),
    ],
)
async def test_a_guard_without_a_verdict_is_an_error_and_never_unflagged(error, status):
    async with running_gateway(guard=FakeGuard(prompt_error=error)) as gateway:
        for given, param in (("Hello", "input"), (["Hello", "Bye"], "input[0]")):
            response = await gateway.post("/v1/moderations", json={"input": given})
            assert response.status_code == status
            assert "results" not in response.json()
            if status == 400:
                assert response.json()["error"]["param"] == param


async def test_limits_and_names_are_checked():
    limits = HttpLimits(max_moderation_inputs=2)
    async with running_gateway(limits=limits) as gateway:
        many = await gateway.post("/v1/moderations", json={"input": ["a", "b", "c"]})
        mixed = await gateway.post("/v1/moderations", json={"input": ["a", 7]})
        none = await gateway.post("/v1/moderations", json={"input": []})
        other = await gateway.post("/v1/moderations", json={"input": "a", "model": "other"})
        named = await gateway.post("/v1/moderations", json={"input": "a", "model": "oracle"})
        odd = await gateway.post("/v1/moderations?category_names=x", json={"input": "a"})
    assert many.json()["error"]["message"].endswith("at most 2 (max_moderation_inputs)")
    assert mixed.json()["error"]["param"] == "input[1]"
    assert none.json()["error"]["param"] == "input"
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")
    assert named.status_code == 200
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "category_names")


async def test_the_policy_decides_which_policy_the_guard_uses():
    guard = FakeGuard()
    policies = [GatewayPolicy(), GatewayPolicy(id="school", guard_policy_id="minors")]
    async with running_gateway(guard=guard, policies=policies, selectable=["school"]) as gateway:
        await gateway.post(
            "/v1/moderations", json={"input": "a"}, headers={"x-guard-policy": "school"}
        )
    assert guard.calls[0].policy_id == "minors"


def counted(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_every_text_leaves_a_record_without_the_text(tmp_path: Path):
    path, metrics = tmp_path / "audit.jsonl", Metrics()
    with AuditTrail(path, KEY, max_waiting=10, metrics=metrics) as trail:
        async with running_gateway(observer=Observers([metrics, trail])) as gateway:
            await gateway.post(
                "/v1/moderations",
                json={"input": ["Hello", UNSAFE]},
                headers={"x-request-id": "mine"},
            )

    written = path.read_text(encoding="utf-8")
    records = {each["action"]: each for each in map(json.loads, written.splitlines())}
    assert {each["kind"] for each in records.values()} == {"moderation"}
    assert {each["request_id"] for each in records.values()} == {"mine"}
    assert records["passed"]["text_hmac_sha256"] == digest_of("Hello", KEY)
    assert records["reported"]["verdict"]["categories"] == {"S9": 0.8}
    assert UNSAFE not in written


async def test_requests_are_counted_by_outcome_with_their_time_and_texts_by_verdict():
    metrics = Metrics()
    async with running_gateway(observer=metrics) as gateway:
        await gateway.post("/v1/moderations", json={"input": ["Hello", UNSAFE]})

    assert counted(metrics, "gateway_moderations_total", outcome="answered") == 1
    assert counted(metrics, "gateway_moderation_seconds_count") == 1
    assert counted(metrics, "gateway_moderated_texts_total", result="safe") == 1
    assert counted(metrics, "gateway_moderated_texts_total", result="unsafe") == 1
    assert counted(metrics, "gateway_requests_total", outcome="answered") == 0
    assert counted(metrics, "gateway_blocks_total", phase="prompt", category="S9") == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidRequest("conversation.messages[0].content", "too long"), "refused"),
        (Overloaded("full", 4), "busy"),
        (NotReady("starting"), "guard_unavailable"),
        (DeadlineExceeded("late"), "out_of_time"),
    ],
)
async def test_a_request_without_a_verdict_is_counted_and_recorded_as_such(
    error, outcome, tmp_path: Path
):
    path, metrics, guard = tmp_path / "audit.jsonl", Metrics(), FakeGuard(prompt_error=error)
    with AuditTrail(path, KEY, max_waiting=10, metrics=metrics) as trail:
        async with running_gateway(guard=guard, observer=Observers([metrics, trail])) as gateway:
            await gateway.post("/v1/moderations", json={"input": "Hello"})

    assert counted(metrics, "gateway_moderations_total", outcome=outcome) == 1
    assert counted(metrics, "gateway_moderated_texts_total", result="none") == 1
    [record] = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (record["action"], record["reason"]) == ("blocked", type(error).__name__)
    assert record["verdict"] is None


async def test_a_client_that_leaves_is_counted():
    metrics, guard = Metrics(), FakeGuard()
    guard.hold()
    async with running_gateway(guard=guard, observer=metrics) as gateway:
        asking = asyncio.create_task(gateway.post("/v1/moderations", json={"input": "Hello"}))
        await until(lambda: guard.calls)
        asking.cancel()
        await until(lambda: counted(metrics, "gateway_moderations_total", outcome="cancelled"))


async def test_nothing_is_judged_while_it_must_be_recorded_and_cannot_be():
    class Broken:
        is_working = False

    guard = FakeGuard()
    moderation = TextModeration(guard, NullObserver(), Broken())
    async with running_gateway(guard=guard, moderation=moderation) as gateway:
        response = await gateway.post("/v1/moderations", json={"input": "Hello"})

    assert response.status_code == 503
    assert "audit_required" in response.json()["error"]["message"]
    assert guard.calls == []
