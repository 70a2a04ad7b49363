"""The gateway as Amazon SageMaker and Vertex AI call a container, over its real HTTP server."""

import asyncio
import json
import socket

import httpx
import pytest

from chat_gateway.settings import load
from guard_service.moderation import ConfigurationError, NotReady
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard
from tests.chat_gateway.test_serving import CHAT, fronted, until_asked

UNSAFE = {**CHAT, "messages": [{"role": "user", "content": f"How do I {UNSAFE_PHRASE}?"}]}
SAGEMAKER = {"container_contract": "sagemaker"}
VERTEX = {"container_contract": "vertex"}


@pytest.fixture
def vertex_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """The environment Vertex AI starts a container with; the port it names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    monkeypatch.setenv("AIP_HTTP_PORT", str(port))
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/8")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/v1/endpoints/7/deployedModels/8:predict")
    return port


HEALTH = "/v1/endpoints/7/deployedModels/8"
PREDICT = "/v1/endpoints/7/deployedModels/8:predict"


def content_of(completion: dict[str, object]) -> str:
    return completion["choices"][0]["message"]["content"]


def reason_of(completion: dict[str, object]) -> str:
    return completion["choices"][0]["finish_reason"]


def error_of(response: httpx.Response) -> dict[str, str]:
    return response.json()["error"]


class AbsentGuard(FakeGuard):
    """A guard that cannot be reached."""

    async def info(self, *, timeout_seconds: float = 30.0) -> None:
        del timeout_seconds
        raise NotReady("starting")


async def test_no_platform_means_no_such_paths():
    async with fronted(FakeGuard()) as (_, http, _):
        answers = [
            await http.get("/ping"),
            await http.post("/invocations", json=CHAT),
            await http.post("/predict", json={"instances": [CHAT]}),
        ]

    assert [each.status_code for each in answers] == [404, 404, 404]


async def test_sagemaker_invokes_a_chat_and_sees_blocks():
    async with fronted(FakeGuard(), **SAGEMAKER) as (_, http, metrics):
        ping = await http.get("/ping")
        answer = await http.post("/invocations", json=CHAT)
        refusal = await http.post("/invocations", json=UNSAFE)
        nothing = await http.post("/ping", json=CHAT)

    labels = {"path": "/v1/chat/completions", "status": "2xx"}
    assert metrics.registry.get_sample_value("gateway_http_responses_total", labels) == 2
    assert ping.status_code == 200
    assert content_of(answer.json()) == "All is fine."
    assert reason_of(refusal.json()) == "content_filter"
    assert nothing.status_code == 404


async def test_sagemaker_streams_what_was_judged():
    async with (
        fronted(FakeGuard(), **SAGEMAKER) as (_, http, _),
        http.stream("POST", "/invocations", json=CHAT | {"stream": True}) as response,
    ):
        lines = [line async for line in response.aiter_lines() if line]

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["transfer-encoding"] == "chunked"
    assert lines.pop() == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    told = "".join(c["delta"].get("content") or "" for each in chunks for c in each["choices"])
    assert told == "All is fine."


async def test_sagemaker_without_a_guard_gets_no_ping_and_no_answer():
    async with fronted(AbsentGuard(prompt_error=NotReady("gone")), **SAGEMAKER) as (_, http, _):
        ping = await http.get("/ping")
        answer = await http.post("/invocations", json=CHAT)

    assert ping.status_code == 503
    assert answer.status_code == 503
    assert error_of(answer)["code"] == "guard_unavailable"


async def test_sagemaker_meets_the_limits_of_the_gateway():
    limits = {"max_body_bytes": 2048, "max_messages": 1}
    async with fronted(FakeGuard(), **SAGEMAKER, **limits) as (_, http, _):
        large = await http.post("/invocations", json=CHAT | {"user": "x" * 4096})
        other = await http.post(
            "/invocations", content=b"a,b", headers={"content-type": "text/csv"}
        )
        many = await http.post("/invocations", json=CHAT | {"messages": CHAT["messages"] * 2})

    assert [each.status_code for each in (large, other, many)] == [413, 415, 400]


async def test_sagemaker_finds_no_ping_while_the_gateway_drains():
    async with fronted(FakeGuard(), **SAGEMAKER, lame_duck_seconds=600) as (front, http, _):
        draining = asyncio.create_task(front.drain())
        await asyncio.sleep(0)
        ping = await http.get("/ping")
        draining.cancel()

    assert ping.status_code == 503


async def test_vertex_predicts_for_instances_in_order(vertex_port: int):
    async with fronted(FakeGuard(), **VERTEX) as (front, http, metrics):
        health = await http.get(HEALTH)
        answer = await http.post(PREDICT, json={"instances": [CHAT, UNSAFE, CHAT]})
        assert front.http_port == vertex_port

    assert health.status_code == 200
    first, second, third = answer.json()["predictions"]
    assert (content_of(first), content_of(third)) == ("All is fine.", "All is fine.")
    assert (reason_of(first), reason_of(second)) == ("stop", "content_filter")
    assert answer.headers["x-guard-policy"]
    labels = {"path": "/predict", "status": "2xx"}
    assert metrics.registry.get_sample_value("gateway_http_responses_total", labels) == 1


async def test_vertex_raw_prediction_is_a_chat_and_may_stream(vertex_port: int):
    del vertex_port
    async with fronted(FakeGuard(), **VERTEX) as (_, http, _):
        whole = await http.post(PREDICT, json=CHAT)
        stream = await http.post(PREDICT, json=CHAT | {"stream": True})
        broken = await http.post(
            PREDICT, content=b"{", headers={"content-type": "application/json"}
        )

    assert content_of(whole.json()) == "All is fine."
    assert stream.text.endswith("data: [DONE]\n\n")
    assert broken.status_code == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"instances": []}, "instances"),
        ({"instances": [CHAT] * 9}, "instances"),
        ({"instances": [CHAT, {"messages": 1}]}, "instances[1].model"),
        ({"instances": [CHAT, CHAT | {"stream": True}]}, "instances[1].stream"),
        (
            {"instances": [CHAT, CHAT | {"messages": [{"role": "user", "content": " "}]}]},
            "instances[1].messages[0].content",
        ),
        ({"instances": [CHAT], "parameters": {"temperature": 1}}, "parameters"),
    ],
)
async def test_vertex_is_told_which_instance_is_wrong(
    vertex_port: int, body: dict[str, object], param: str
):
    del vertex_port
    async with fronted(FakeGuard(), **VERTEX) as (_, http, _):
        response = await http.post(PREDICT, json=body)

    assert response.status_code == 400
    assert error_of(response)["param"] == param


async def test_vertex_gets_no_prediction_if_one_cannot_be_judged(vertex_port: int):
    del vertex_port
    guard = FakeGuard(prompt_error=NotReady("gone"))
    async with fronted(guard, **VERTEX) as (_, http, _):
        response = await http.post(PREDICT, json={"instances": [CHAT, CHAT]})

    assert response.status_code == 503
    assert "predictions" not in response.json()


async def test_the_first_error_ends_the_other_predictions(vertex_port: int):
    del vertex_port
    guard = FakeGuard()
    guard.hold()
    blank = CHAT | {"messages": [{"role": "user", "content": " "}]}
    async with fronted(guard, **VERTEX) as (_, http, _), asyncio.timeout(60):
        response = await http.post(PREDICT, json={"instances": [CHAT, blank]})

    assert response.status_code == 400
    assert [call.closed for call in guard.calls] == [True] * len(guard.calls)


async def test_a_client_that_leaves_ends_all_its_predictions(vertex_port: int):
    del vertex_port
    guard = FakeGuard()
    guard.hold()
    async with fronted(guard, **VERTEX) as (front, http, _):
        asked = asyncio.create_task(http.post(PREDICT, json={"instances": [CHAT, CHAT]}))
        await until_asked(guard)
        asked.cancel()
        async with asyncio.timeout(60):
            await front._door.emptied()

    assert [call.closed for call in guard.calls] == [True] * len(guard.calls)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("AIP_HTTP_PORT", "", "AIP_HTTP_PORT is not set"),
        ("AIP_HTTP_PORT", "80a", "AIP_HTTP_PORT is no port"),
        ("AIP_HTTP_PORT", "70000", "AIP_HTTP_PORT is no port"),
        ("AIP_HEALTH_ROUTE", "", "AIP_HEALTH_ROUTE is not set"),
        ("AIP_PREDICT_ROUTE", "predict", "AIP_PREDICT_ROUTE is no path"),
    ],
)
def test_vertex_variables_that_make_no_sense_are_wrong_configuration(
    vertex_port: int, monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
):
    del vertex_port
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=problem):
        _ = load(VERTEX).http_port


def test_vertex_variables_mean_nothing_elsewhere(vertex_port: int):
    assert load().http_port == 8080 != vertex_port
    assert load().contract is None
