"""The `openai` client through a real Envoy, judged by the real ext_proc process.

Text that must not get out carries a canary, and every byte the client receives is looked at.
"""

import asyncio
import gzip
import json
import subprocess
from collections.abc import AsyncIterator, Callable

import httpx
import openai
import pytest
import pytest_asyncio

from tests.chat_gateway.upstreams import (
    Asked,
    Reply,
    answering,
    blurting,
    chunk,
    openai_error,
    refusing,
    telling,
    usage_chunk,
)
from tests.fakes import UNSAFE_WORD
from tests.interop.envoy import ROOT
from tests.interop.judging_envoy import CANARY, PATIENCE, Judged, judging

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAFE = "Water boils at one hundred degrees at sea level, and sooner on a mountain. "
PICTURE = [{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]
UNSAFE = f"Then you take the {UNSAFE_WORD} and {CANARY}. "


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    needs_binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Judged]:
    folder = tmp_path_factory.mktemp("envoy")
    async with judging(needs_binary("envoy"), folder, "--max-body-bytes", "65536") as everything:
        yield everything


@pytest_asyncio.fixture(loop_scope="module")
async def judged(running: Judged) -> AsyncIterator[Judged]:
    """Everything, with nothing asked or received yet; at its end no canary may have got out."""
    running.tap.received.clear()
    running.upstream.asked.clear()
    running.upstream.left.clear()
    running.switch.script = answering(SAFE)
    yield running
    assert CANARY.encode() not in running.tap.received


def texts(chunks: list, choice: int = 0) -> str:
    """The content of one choice of a stream."""
    deltas = [each for chunk in chunks for each in chunk.choices if each.index == choice]
    return "".join(each.delta.content or "" for each in deltas)


def finishes(chunks: list) -> dict[int, str]:
    """Why each choice of a stream ended."""
    ends = [each for chunk in chunks for each in chunk.choices if each.finish_reason]
    return {each.index: each.finish_reason for each in ends}


async def test_a_whole_answer_passes(judged: Judged):
    answer = await judged.chat("How hot is boiling water?", temperature=0.5, user="somebody")

    assert answer.choices[0].message.content == SAFE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 7


async def test_the_server_is_asked_what_was_judged_and_nothing_else(judged: Judged):
    hello = {"model": "stub", "messages": [{"role": "user", "content": "Hello"}]}
    twice = json.dumps({"messages": [{"role": "user", "content": UNSAFE}]})[:-1]
    body = f"{twice}, {json.dumps(hello)[1:]}"
    headers = {
        "content-type": "application/json; charset=utf-7",
        "accept-encoding": "gzip",
        "x-guard-policy": "default",
    }
    answer = await judged.http.post("/v1/chat/completions", content=body, headers=headers)

    [asked] = judged.upstream.asked
    assert answer.status_code == 200
    assert asked.body == {
        "model": "stub",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["content-type"] == "application/json"
    assert not asked.headers.keys() & {"x-chat-gateway", "x-guard-policy"}


async def test_the_callers_key_reaches_the_server(judged: Judged):
    await judged.chat()

    assert judged.upstream.asked[0].headers["authorization"] == "Bearer sk-own"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_prompt_is_answered_with_a_refusal_and_the_server_is_not_asked(
    judged: Judged, *, stream: bool
):
    judged.switch.script = answering(CANARY)
    answer = await judged.chat(f"How do I build a {UNSAFE_WORD}?", stream=stream)

    if stream:
        chunks = [each async for each in answer]
        said, reason = texts(chunks), finishes(chunks)[0]
    else:
        said, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert (said, reason) == ("I can't help with that.", "content_filter")
    assert judged.upstream.asked == []


async def test_a_blocked_answer_is_replaced_by_a_refusal(judged: Judged):
    judged.switch.script = answering(SAFE, UNSAFE, CANARY)
    answer = await judged.chat()

    assert answer.choices[0].message.content == "I can't help with that."
    assert answer.choices[0].finish_reason == "content_filter"


async def test_a_stream_reaches_the_client_while_the_server_still_writes(judged: Judged):
    seen = asyncio.Event()

    async def waiting_to_be_seen(_: Asked, reply: Reply) -> None:
        await reply.start()
        await reply.event(chunk(SAFE))
        await seen.wait()
        for event in (chunk("The end."), chunk("", finish="stop"), usage_chunk(7, 2), "[DONE]"):
            await reply.event(event)
        await reply.end()

    judged.switch.script = waiting_to_be_seen
    stream = await judged.chat(stream=True, stream_options={"include_usage": True})
    chunks = []
    async with asyncio.timeout(PATIENCE):
        async for each in stream:
            chunks.append(each)
            if texts(chunks) == SAFE:
                seen.set()

    assert texts(chunks) == SAFE + "The end."
    assert finishes(chunks) == {0: "stop"}
    assert chunks[-1].usage.completion_tokens == 2
    assert judged.tap.received.endswith(b"data: [DONE]\n\n\n")


async def test_a_stream_is_cut_where_it_becomes_unsafe_and_the_server_is_let_go(judged: Judged):
    seen = asyncio.Event()

    async def turning_unsafe(_: Asked, reply: Reply) -> None:
        await reply.start()
        await reply.event(chunk(SAFE))
        await seen.wait()
        await reply.event(chunk(UNSAFE))
        while True:
            await reply.event(chunk(f"{CANARY} and on "))
            await asyncio.sleep(0.01)

    judged.switch.script = turning_unsafe
    stream = await judged.chat(stream=True)
    chunks = []
    async with asyncio.timeout(PATIENCE):
        async for each in stream:
            chunks.append(each)
            seen.set()
        await judged.upstream.left.wait()

    assert texts(chunks) == SAFE
    assert finishes(chunks) == {0: "content_filter"}
    refusals = [each.choices[0].delta.refusal for each in chunks if each.choices]
    assert "I can't help with that." in refusals


async def test_what_is_unsafe_is_found_wherever_its_bytes_are_parted(judged: Judged):
    events = [chunk(SAFE), chunk("Ünsafe, bo"), chunk(f"mb {CANARY} ünd more. "), chunk(CANARY)]
    whole = b"".join(
        b"data: %b\n\n" % json.dumps(each, ensure_ascii=False).encode()
        for each in [*events, chunk("", finish="stop")]
    )

    async def dribbling(_: Asked, reply: Reply) -> None:
        await reply.start()
        for start in range(0, len(whole), 7):
            await reply.write(whole[start : start + 7])
        await reply.end()

    judged.switch.script = dribbling
    chunks = [each async for each in await judged.chat(stream=True)]

    assert finishes(chunks) == {0: "content_filter"}
    assert UNSAFE_WORD not in texts(chunks)


async def test_of_two_choices_only_the_unsafe_one_is_cut(judged: Judged):
    judged.switch.script = telling(
        [
            chunk(SAFE, choice=0),
            chunk(UNSAFE, choice=1),
            chunk("", choice=0, finish="stop"),
            chunk(CANARY, choice=1),
            chunk("", choice=1, finish="stop"),
        ]
    )
    chunks = [each async for each in await judged.chat(stream=True, n=2)]
    whole = await judged.chat(n=2)

    assert texts(chunks) == SAFE
    assert finishes(chunks) == {0: "stop", 1: "content_filter"}
    assert [each.finish_reason for each in whole.choices] == ["stop", "content_filter"]
    assert whole.choices[0].message.content == SAFE


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("city", "reason"), [("Paris", "tool_calls"), (f"{UNSAFE_WORD} {CANARY}", "content_filter")]
)
async def test_tool_calls_are_judged_too(judged: Judged, city: str, reason: str, *, stream: bool):
    arguments = json.dumps({"city": city})
    function = {"name": "weather", "arguments": arguments[:9]}
    judged.switch.script = telling(
        [
            chunk(delta={"tool_calls": [{"index": 0, "id": "call_1", "function": function}]}),
            chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": arguments[9:]}}]}),
            chunk("", finish="tool_calls"),
        ]
    )
    tools = [{"type": "function", "function": {"name": "weather"}}]
    answer = await judged.chat(tools=tools, stream=stream)

    if stream:
        chunks = [each async for each in answer]
        calls = [call for each in chunks for call in each.choices[0].delta.tool_calls or ()]
        assert finishes(chunks) == {0: reason}
    else:
        calls = answer.choices[0].message.tool_calls or []
        assert answer.choices[0].finish_reason == reason
    expected = [arguments] if reason == "tool_calls" else []
    assert [call.function.arguments for call in calls] == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_a_compressed_answer_cannot_be_judged(judged: Judged, *, stream: bool):
    body = gzip.compress(b"data: %b\n\n" % json.dumps(chunk(CANARY)).encode())
    judged.switch.script = refusing(200, body, "text/event-stream", content_encoding="gzip")

    with pytest.raises(openai.InternalServerError) as caught:
        await judged.chat(stream=stream)

    assert caught.value.status_code == 502
    assert caught.value.code == "generator_failed"
    assert body not in judged.tap.received


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"choices":[{"message":{"content":"%s"}}]}', "application/json"),
        ("<html>%s</html>", "text/html"),
        ("data: %s\n\n", "text/event-stream"),
        ('data: {"choices":"%s"}\n\n', "text/event-stream"),
        ("", "text/event-stream"),
    ],
    ids=["a whole completion", "a page", "no JSON", "no choices", "nothing"],
)
async def test_what_is_no_stream_of_chunks_is_answered_with_502(
    judged: Judged, body: str, content_type: str
):
    judged.switch.script = blurting(body.replace("%s", CANARY).encode(), content_type)

    with pytest.raises(openai.InternalServerError) as caught:
        await judged.chat()

    assert caught.value.status_code == 502


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_server_keeps_its_status_and_loses_its_words(
    judged: Judged, status: int, *, stream: bool
):
    judged.switch.script = refusing(status, openai_error(CANARY), x_said=CANARY, retry_after="7")

    with pytest.raises(openai.APIStatusError) as caught:
        await judged.chat(stream=stream)

    assert caught.value.status_code == status
    assert caught.value.response.headers["content-type"] == "application/json"
    assert (caught.value.response.headers.get("retry-after") == "7") == (status == 429)


async def test_headers_of_the_server_are_not_passed_on(judged: Judged):
    async def talkative(_: Asked, reply: Reply) -> None:
        await reply.start(x_said=CANARY, set_cookie=CANARY, date=CANARY, server=CANARY)
        for event in (chunk(SAFE), chunk("", finish="stop"), "[DONE]"):
            await reply.event(event)
        await reply.end()

    judged.switch.script = talkative

    assert texts([each async for each in await judged.chat(stream=True)]) == SAFE


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/Chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/models"),
        ("PUT", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/metrics"),
        ("DELETE", "/v1/models"),
    ],
)
async def test_what_is_no_chat_is_refused(judged: Judged, method: str, path: str):
    body = None if method in ("GET", "DELETE") else {"prompt": "Hello"}
    answer = await judged.http.request(method, path, json=body)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert judged.upstream.asked == []


async def test_the_list_of_models_passes(judged: Judged):
    models = await judged.openai.models.list()

    assert [model.id for model in models.data] == ["stub"]


async def test_a_request_to_pass_must_not_bring_a_body(judged: Judged):
    answer = await judged.http.request("GET", "/v1/models", content=UNSAFE)

    assert answer.status_code == 404
    assert judged.upstream.asked == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt_extra": UNSAFE}, "prompt_extra"),
        ({"messages": [{"role": "user", "content": PICTURE}]}, "messages[0].content[0]"),
        ({"max_tokens": 100_000}, "max_tokens"),
    ],
)
async def test_what_cannot_be_judged_is_refused(judged: Judged, fields: dict, param: str):
    body = {"model": "stub", "messages": [{"role": "user", "content": "Hello"}], **fields}
    answer = await judged.http.post("/v1/chat/completions", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert judged.upstream.asked == []


@pytest.mark.parametrize("num_bytes", [70_000, 3_000_000])
async def test_a_request_that_is_too_large_is_refused(judged: Judged, num_bytes: int):
    with pytest.raises(openai.APIStatusError) as caught:
        await judged.chat("x" * num_bytes)

    assert caught.value.status_code == 413
    assert judged.upstream.asked == []


async def test_a_client_that_leaves_ends_the_work(judged: Judged):
    async def endless(_: Asked, reply: Reply) -> None:
        await reply.start()
        while True:
            await reply.event(chunk(SAFE))
            await asyncio.sleep(0.01)

    judged.switch.script = endless
    stream = await judged.chat(stream=True)
    await anext(aiter(stream))
    await stream.close()

    async with asyncio.timeout(PATIENCE):
        await judged.upstream.left.wait()


async def test_exchanges_are_counted(judged: Judged):
    await judged.chat()
    port = next(
        json.loads(line)["metrics_port"]
        for line in judged.processor.log
        if '"event": "starting"' in line
    )
    async with httpx.AsyncClient() as plain:
        metrics = (await plain.get(f"http://127.0.0.1:{port}/metrics")).text

    assert 'gateway_rpcs_total{code="OK",method="Process"}' in metrics
    assert 'gateway_rpcs_total{code="INTERNAL",method="Process"} 0.0' in metrics
    assert 'gateway_http_responses_total{path="/v1/chat/completions",status="2xx"}' in metrics
    assert CANARY not in metrics + "".join(judged.processor.log)


async def test_envoy_accepts_the_configuration(needs_binary: Callable[[str], str]):
    file = ROOT / "deploy" / "envoy" / "ext-proc.yaml"
    finished = await asyncio.to_thread(
        subprocess.run,
        [needs_binary("envoy"), "--mode", "validate", "-c", file, "-l", "warning"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert "eprecated" not in finished.stderr
