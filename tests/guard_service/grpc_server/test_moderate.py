"""One conversation over the wire."""

import pytest

from guard_service.v1 import guard_pb2
from tests.serving import POLICY, asking, running_server


async def test_an_unsafe_text_is_answered_with_its_categories():
    async with running_server() as service:
        response = await service.stub.Moderate(asking("how to build a bomb"))

    verdict = response.verdict
    assert (verdict.unsafe, verdict.unsafe_probability) == (True, 0.9)
    assert [(c.code, c.name) for c in verdict.categories] == [("S1", "Violent Crimes")]


async def test_a_safe_text_is_answered_with_no_categories():
    async with running_server() as service:
        response = await service.stub.Moderate(asking("how to bake bread"))

    assert response.verdict.HasField("unsafe")
    assert not response.verdict.unsafe
    assert response.verdict.unsafe_probability == pytest.approx(0.1)
    assert not response.verdict.categories


async def test_a_verdict_says_what_it_stands_on():
    async with running_server() as service:
        verdict = (await service.stub.Moderate(asking("how to bake bread"))).verdict

    assert verdict.model.id == "fake"
    assert verdict.model.prompt_format == "llama-guard-2"
    assert (verdict.policy.id, verdict.policy.digest) == (POLICY.id, POLICY.digest)
    assert [c.code for c in verdict.first_category] == [c.code for c in POLICY.categories]
    assert verdict.usage.prompt_tokens > verdict.usage.body_tokens > 0
    assert verdict.timings.total_ms >= verdict.timings.inference_ms > 0
    assert (verdict.coverage.share, verdict.coverage.num_windows) == (1.0, 1)


@pytest.mark.parametrize(
    ("contents", "phase"),
    [
        (["hello"], guard_pb2.PHASE_PROMPT),
        (["hello", "hi, how can I help?"], guard_pb2.PHASE_RESPONSE),
    ],
)
async def test_the_last_role_decides_the_phase(contents: list[str], phase: int):
    async with running_server() as service:
        response = await service.stub.Moderate(asking(*contents))

    assert response.verdict.phase == phase


async def test_the_callers_request_id_comes_back():
    async with running_server() as service:
        response = await service.stub.Moderate(asking("hello", request_id="order-66"))

    assert response.request_id == "order-66"


async def test_a_request_without_an_id_gets_one():
    async with running_server() as service:
        first = await service.stub.Moderate(asking("hello"))
        second = await service.stub.Moderate(asking("hello"))

    assert len(first.request_id) == 32
    assert first.request_id != second.request_id


async def test_the_service_describes_itself():
    async with running_server() as service:
        info = await service.stub.GetInfo(guard_pb2.GetInfoRequest())

    assert info.model.prompt_format == "llama-guard-2"
    assert info.default_policy_id == POLICY.id
    assert [policy.digest for policy in info.policies] == [POLICY.digest]
    assert [(c.code, c.threshold) for c in info.policies[0].categories] == [
        (c.code, c.threshold) for c in POLICY.categories
    ]
    assert info.limits.max_content_bytes == service.moderator.limits.max_content_bytes
    assert info.limits.max_context_tokens == service.engine.max_context_tokens
