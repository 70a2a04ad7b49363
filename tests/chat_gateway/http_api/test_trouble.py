"""What a client reads when there is no answer, before and after the stream has begun."""

import asyncio
import json

import httpx
import openai
import pytest

from chat_gateway.chat import (
    Blocked,
    ChoiceFinished,
    FinishReason,
    GeneratorFailed,
    GuardUnavailable,
    InvalidChat,
    OutOfTime,
    TextDelta,
    TooBusy,
    UnknownModel,
)
from chat_gateway.http_api.limits import HttpLimits
from guard_service.moderation import Phase
from tests.chat_gateway.http_api.serving import (
    CHAT,
    PROMPT_SAFE,
    ScriptedPipeline,
    running_gateway,
)

SAID = TextDelta(0, "Some text.")

TABLE = [
    (InvalidChat("messages", "too odd"), 400, "invalid_request_error", "invalid_value"),
    (UnknownModel("model", "no such model"), 404, "invalid_request_error", "model_not_found"),
    (TooBusy("come back", 2.5), 429, "rate_limit_error", "too_busy"),
    (GuardUnavailable("no verdict"), 503, "server_error", "guard_unavailable"),
    (GeneratorFailed("the model failed"), 502, "server_error", "generator_failed"),
    (OutOfTime("too late"), 504, "server_error", "out_of_time"),
    (RuntimeError("SECRET"), 500, "server_error", "internal_error"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status", "kind", "code"), TABLE)
async def test_each_error_before_the_answer_has_its_status(error, status, kind, code, stream):
    pipeline = ScriptedPipeline([PROMPT_SAFE, error])
    async with running_gateway(pipeline=pipeline) as gateway:
        response = await gateway.post(json={**CHAT, "stream": stream})
        with pytest.raises(openai.APIStatusError) as raised:
            await gateway.openai.chat.completions.create(**CHAT, stream=stream)
    problem = response.json()["error"]
    assert response.status_code == raised.value.status_code == status
    assert (problem["type"], problem["code"]) == (kind, code)
    assert set(problem) == {"message", "type", "param", "code"}
    assert "SECRET" not in response.text


async def test_what_an_unforeseen_error_says_is_read_by_nobody(capfd):
    for script in ([PROMPT_SAFE, RuntimeError("SECRET")], [SAID, RuntimeError("SECRET")]):
        async with running_gateway(pipeline=ScriptedPipeline(script)) as gateway:
            response = await gateway.post(json={**CHAT, "stream": True})
        assert "SECRET" not in response.text
    logged = "".join(capfd.readouterr())
    assert logged.count("RuntimeError") == 2
    assert "SECRET" not in logged


async def test_a_busy_gateway_says_when_to_come_back():
    async with running_gateway(pipeline=ScriptedPipeline([TooBusy("full", 2.5)])) as gateway:
        response = await gateway.post(json=CHAT)
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GeneratorFailed("the model failed"), "generator_failed"),
        (GuardUnavailable("no verdict"), "guard_unavailable"),
        (OutOfTime("too late"), "out_of_time"),
        (RuntimeError("SECRET"), "internal_error"),
    ],
)
async def test_another_error_mid_stream_is_an_event_that_clients_raise(error, code):
    pipeline = ScriptedPipeline([PROMPT_SAFE, SAID, error])
    async with running_gateway(pipeline=pipeline) as gateway:
        *_, last = await gateway.events(CHAT)
        stream = await gateway.openai.chat.completions.create(**CHAT, stream=True)
        with pytest.raises(openai.APIError) as raised:
            [chunk async for chunk in stream]
    assert json.loads(last)["error"]["code"] == raised.value.code == code
    assert "SECRET" not in last


async def test_an_answer_nobody_could_judge_is_refused():
    pipeline = ScriptedPipeline([PROMPT_SAFE, SAID, Blocked(Phase.RESPONSE, 0, "No.", None)])
    asked = {"model": "oracle"}
    async with running_gateway(pipeline=pipeline) as gateway:
        completion = await gateway.openai.chat.completions.create(**CHAT, moderation=asked)
    assert completion.choices[0].finish_reason == "content_filter"
    assert completion.choices[0].message.content == "No."
    assert completion.moderation.output.code == "blocked_unjudged"


async def test_an_answer_without_an_end_is_a_failure():
    async with running_gateway(pipeline=ScriptedPipeline([PROMPT_SAFE, SAID])) as gateway:
        response = await gateway.post(json=CHAT)
        *_, last = await gateway.events(CHAT)
    assert response.status_code == 502
    assert json.loads(last)["error"]["code"] == "generator_failed"


async def test_a_client_that_leaves_mid_stream_stops_the_work():
    never = asyncio.Event()
    pipeline = ScriptedPipeline([PROMPT_SAFE, SAID, never])
    async with running_gateway(pipeline=pipeline) as gateway:
        request = gateway.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
        async with request as response:
            assert await anext(response.aiter_lines())
        await asyncio.wait_for(pipeline.closed.wait(), 10)


async def test_a_client_that_stops_reading_is_not_waited_for():
    # More than the sockets between the two can hold.
    pipeline = ScriptedPipeline([PROMPT_SAFE, *[TextDelta(0, "x" * 1_000_000)] * 64])
    limits = HttpLimits(max_unread_seconds=0.2)
    async with running_gateway(pipeline=pipeline, limits=limits) as gateway:
        body = json.dumps({**CHAT, "stream": True}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(gateway.url).port)
        writer.transport.pause_reading()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        await asyncio.wait_for(pipeline.closed.wait(), 20)
        writer.transport.abort()


async def test_a_client_that_leaves_before_any_answer_stops_the_work():
    never = asyncio.Event()
    pipeline = ScriptedPipeline([PROMPT_SAFE, never])
    async with running_gateway(pipeline=pipeline) as gateway:
        asking = asyncio.create_task(gateway.post(json=CHAT))
        await pipeline.begun.wait()
        asking.cancel()
        await asyncio.wait_for(pipeline.closed.wait(), 10)


async def test_the_finish_a_block_implies_is_said_once():
    script = [SAID, Blocked(Phase.RESPONSE, 0, "No.", None), ChoiceFinished(0, FinishReason.STOP)]
    async with running_gateway(pipeline=ScriptedPipeline(script)) as gateway:
        *events, _ = await gateway.events(CHAT)
    reasons = [
        choice["finish_reason"] for event in events for choice in json.loads(event)["choices"]
    ]
    assert reasons == [None, None, "content_filter"]
