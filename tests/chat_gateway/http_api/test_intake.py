"""Bad input: refused with a status and a message that repeats nothing of it."""

import asyncio
import json
import math

import httpx
import pytest

from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.http_api.problem import invalid_chat
from chat_gateway.places import Places
from tests.chat_gateway.http_api.serving import (
    CHAT,
    MESSAGES,
    PROMPT_SAFE,
    ScriptedPipeline,
    running_gateway,
)

CANARY = "canary-7f3a"
JSON = {"content-type": "application/json"}

BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"' + CANARY.encode() + b'"',
    b'{"model": "' + CANARY.encode(),
    b'{"model": "\xff\xfe' + CANARY.encode() + b'"}',
    b'{"model": "\\ud800' + CANARY.encode() + b'", "messages": []}',
    b"[" * 100_000,
    b'{"model": ' + b"9" * 10_000 + b"}",
    b'{"model": NaN, "messages": 1}',
]


@pytest.fixture(scope="module")
def limits():
    return HttpLimits(max_body_bytes=200_000, max_messages=5, max_choices=4, max_body_seconds=3)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/moderations"])
async def test_a_body_that_is_no_request_is_refused(path, limits):
    async with running_gateway(limits=limits) as gateway:
        for body in BODIES:
            response = await gateway.post(path, content=body, headers=JSON)
            assert response.status_code == 400, body[:40]
            assert response.json()["error"]["type"] == "invalid_request_error"
            assert CANARY not in response.text


def user(**fields):
    return {"messages": [{"role": "user", "content": "Hello", **fields}]}


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

WRONG = [
    ({"model": 7}, "model"),
    ({"model": None}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": CANARY}, "messages"),
    ({"messages": [CANARY]}, "messages[0]"),
    ({"messages": MESSAGES * 6}, "messages"),
    ({"messages": [{"role": CANARY, "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (user(content=""), "messages[0].content"),
    (user(content=" \n"), "messages[0].content"),
    (user(content=7), "messages[0].content"),
    (user(content=[]), "messages[0].content"),
    (user(content=[{"type": "text", "text": 7}]), "messages[0].content[0].text"),
    (user(content=[{"type": "image_url", "image_url": {"url": CANARY}}]), "messages[0].content[0]"),
    (user(tool_calls=[CALL]), "messages[0].tool_calls"),
    (user(tool_call_id="c"), "messages[0].tool_call_id"),
    (user(name=f"{CANARY} !"), "messages[0].name"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 5}, "n"),
    ({"n": 1.5}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": {"a": 1}}, "stop"),
    ({"seed": "x"}, "seed"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {CANARY * 9: True}}, "stream_options.?"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": CANARY}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"moderation": {"policy": {}}}, "moderation.model"),
    (
        {"moderation": {"model": "oracle", "policy": {"input": {"mode": "off"}}}},
        "moderation.policy.input.mode",
    ),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": -1}, "presence_penalty"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"response_format": {"type": "json_object"}}, "response_format.type"),
    ({"functions": []}, "functions"),
    ({"audio": {}}, "audio"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"guard": False}, "guard"),
    ({"service_tier": "flex"}, "service_tier"),
]


async def test_what_is_wrong_or_unsupported_is_named(limits):
    async with running_gateway(limits=limits) as gateway:
        for fields, param in WRONG:
            response = await gateway.post(json={**CHAT, **fields})
            problem = response.json()["error"]
            assert response.status_code == 400, fields
            assert problem["param"] == param, fields
            assert problem["message"].startswith(f"{param}: ")
            assert CANARY not in response.text, fields


def test_the_words_of_an_unknown_kind_of_error_are_not_passed_on():
    refusal = invalid_chat([{"type": "new_kind", "loc": ("messages", 0), "msg": CANARY}])
    assert str(refusal) == "messages[0]: is not valid"


async def test_null_means_not_given(limits):
    nothing = dict.fromkeys(
        ["n", "stream", "stop", "seed", "tools", "tool_choice", "temperature", "moderation", "user"]
    )
    async with running_gateway(limits=limits) as gateway:
        response = await gateway.post(json={**CHAT, **nothing})
    assert response.status_code == 200


async def test_values_that_change_nothing_are_accepted(limits):
    neutral = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logprobs": False,
        "logit_bias": {},
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "service_tier": "auto",
    }
    async with running_gateway(limits=limits) as gateway:
        response = await gateway.post(json={**CHAT, **neutral})
    assert response.status_code == 200


async def test_a_body_over_the_limit_is_refused_while_it_arrives(limits):
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 1000 * limits.max_body_bytes:
            sent += 65_536
            yield b"x" * 65_536

    async with running_gateway(limits=limits) as gateway:
        known = await gateway.post(content=b"x" * (limits.max_body_bytes + 1), headers=JSON)
        assert known.status_code == 413
        assert known.json()["error"]["code"] == "content_too_large"
        assert str(limits.max_body_bytes) in known.json()["error"]["message"]
        try:
            streamed = await gateway.post(content=endless(), headers=JSON)
            assert streamed.status_code == 413
        except httpx.NetworkError:
            pass  # the server closed before the client had said all of it
    assert sent < 500 * limits.max_body_bytes


async def test_a_body_that_does_not_come_is_not_waited_for(limits):
    never = asyncio.Event()

    async def stalled():
        yield b"{"
        await never.wait()

    async with running_gateway(limits=limits) as gateway:
        asking = asyncio.create_task(gateway.post(content=stalled(), headers=JSON))
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(gateway.url).port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 10\r\n\r\n{"
        )
        assert b" 408 " in await reader.readline()
        writer.close()
        asking.cancel()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        JSON | {"content-encoding": "gzip"},
    ],
)
async def test_another_content_type_is_refused(headers, limits):
    async with running_gateway(limits=limits) as gateway:
        response = await gateway.post(content=b"{}", headers=headers)
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


async def test_unknown_paths_and_methods_are_refused_in_the_same_words():
    async with running_gateway() as gateway:
        missing = await gateway.http.get("/v1/nothing")
        wrong = await gateway.http.get("/v1/chat/completions")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_a_full_gateway_refuses_new_work_and_takes_it_again_later():
    gate = asyncio.Event()
    pipeline = ScriptedPipeline([PROMPT_SAFE, gate])
    async with running_gateway(pipeline=pipeline, places=Places(1)) as gateway:
        first = asyncio.create_task(gateway.post(json=CHAT))
        await pipeline.begun.wait()
        refused = await gateway.post(json=CHAT)
        listed = await gateway.http.get("/v1/models")
        gate.set()
        await first
        later = await gateway.post(json=CHAT)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "too_busy"
    assert listed.status_code == 200
    assert later.status_code != 429


async def test_numbers_that_are_none_are_refused(limits):
    async with running_gateway(limits=limits) as gateway:
        for number in (math.nan, math.inf):
            body = json.dumps({**CHAT, "temperature": number})
            response = await gateway.post(content=body, headers=JSON)
            assert response.status_code == 400
