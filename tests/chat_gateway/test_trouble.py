"""The whole gateway in trouble: each trouble has its status, its code and its count.

Real HTTP, the real clients of guard and model server, a real guard. Only the model server's bytes
and the guard's engine are scripted.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest

from chat_gateway.composition import composed, read_policies
from chat_gateway.generators.openai import OpenAIGenerator
from chat_gateway.generators.upstream import DEFAULT_PATIENCE, Patience
from chat_gateway.metrics import Metrics
from chat_gateway.serving import running
from chat_gateway.settings import load
from guard_service.v1 import guard_pb2, guard_pb2_grpc
from tests.chat_gateway.grpc_server.serving import until
from tests.chat_gateway.test_guarded_end_to_end import serving
from tests.chat_gateway.upstreams import (
    Asked,
    Reply,
    Script,
    answering,
    blurting,
    chunk,
    cutting,
    openai_error,
    refusing,
    running_upstream,
    silent,
    stalling,
    telling,
    tgi_error,
)
from tests.fakes import UNSAFE_WORD, FakeEngine
from tests.scripted_server import ScriptedServicer, whole

CHAT = {"model": "stub", "messages": [{"role": "user", "content": "Hello"}]}
PATH = "/v1/chat/completions"
SAID = f"Hi {UNSAFE_WORD}"
"""Never judged before the trouble, so it must never come through."""
SAYS = b"data: " + json.dumps(chunk(SAID)).encode() + b"\n\n"
LONG = "The fox ran on and on. " * 4

Guarding = Callable[[], AbstractAsyncContextManager[str]]


@dataclass(frozen=True, slots=True)
class Troubled:
    """A gateway and what it counts."""

    http: httpx.AsyncClient
    metrics: Metrics

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def outcome(self, outcome: str) -> float:
        return self.counted("gateway_requests_total", outcome=outcome)

    async def ask(self, **fields: object) -> httpx.Response:
        return await self.http.post(PATH, json=CHAT | fields)


@asynccontextmanager
async def sound_guard() -> AsyncIterator[str]:
    async with serving(FakeEngine()) as (server, _):
        yield f"127.0.0.1:{server.port}"


@asynccontextmanager
async def held_guard() -> AsyncIterator[str]:
    engine = FakeEngine()
    async with serving(engine) as (server, _):
        engine.hold()
        try:
            yield f"127.0.0.1:{server.port}"
        finally:
            engine.release()


@asynccontextmanager
async def no_guard() -> AsyncIterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def odd_guard(servicer: ScriptedServicer) -> Guarding:
    @asynccontextmanager
    async def guard() -> AsyncIterator[str]:
        server = grpc.aio.server()
        guard_pb2_grpc.add_GuardServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        yield f"127.0.0.1:{port}"
        await server.stop(None)

    return guard


def refusing_guard(code: grpc.StatusCode) -> Guarding:
    servicer = ScriptedServicer()
    servicer.code = code
    return odd_guard(servicer)


class FullServicer(ScriptedServicer):
    """Turns everyone away and says when to come back."""

    async def Moderate(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        trailers = (("grpc-retry-pushback-ms", "2000"),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", trailers)


def guard_odd_about_answers(verdict: guard_pb2.Verdict | None) -> Guarding:
    servicer = ScriptedServicer(whole())
    servicer.checkpoints = [guard_pb2.ModerateStreamResponse(verdict=verdict, final=True)]
    return odd_guard(servicer)


@asynccontextmanager
async def gateway_on(
    script: Script | None,
    guarding: Guarding = sound_guard,
    *,
    patience: Patience = DEFAULT_PATIENCE,
    **flags: object,
) -> AsyncIterator[Troubled]:
    """A whole gateway before a model server of this script, or before none."""
    metrics = Metrics()
    async with guarding() as guard, running_upstream(script or silent) as upstream:
        settings = load({"port": 0, "grpc_port": "none", "guard": guard, **flags})
        generator = OpenAIGenerator(
            base_url=upstream.base_url if script else "http://127.0.0.1:9/v1",
            models=("stub",),
            patience=patience,
            max_answer_bytes=100_000,
        )
        policies = read_policies(settings)
        async with (
            composed(settings, policies, generator, metrics, None) as gateway,
            running(gateway, settings, metrics) as front,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.http_port}", timeout=60) as http,
        ):
            yield Troubled(http, metrics)


def ending_of(response: httpx.Response) -> str:
    """The code of the error, or the finish reason; a stream has exactly one, and a last line."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        body = response.json()
        return body["error"]["code"] if "error" in body else body["choices"][0]["finish_reason"]
    *lines, rest = response.text.split("\n\n")
    assert rest == ""
    events = [line.removeprefix("data: ") for line in lines]
    if events[-1] != "[DONE]":
        return json.loads(events[-1])["error"]["code"]
    ends = [each["finish_reason"] for event in events[:-1] for each in json.loads(event)["choices"]]
    [end] = filter(None, ends)
    return end


async def endings(gateway: Troubled) -> tuple[list[int], set[str]]:
    """Statuses and ends of the same chat asked whole and as a stream."""
    responses = [await gateway.ask(), await gateway.ask(stream=True)]
    for response in responses:
        assert UNSAFE_WORD not in response.text
    return [response.status_code for response in responses], {*map(ending_of, responses)}


FAILED = (502, "generator_failed", "generator_failed", "GeneratorFailed")
BUSY = (429, "too_busy", "busy", "TooBusy")
REFUSED = (400, "invalid_value", "refused", "InvalidChat")
SLOW = {"it is slow to begin", "it stalls"}
QUICK = Patience(connect_seconds=5, first_byte_seconds=0.3, between_chunks_seconds=0.3)

UPSTREAMS: dict[str, tuple[Script | None, tuple[int, str, str, str]]] = {
    "it is slow to begin": (silent, FAILED),
    "it stalls": (stalling(SAID), FAILED),
    "nobody is there": (None, (502, "generator_failed", "generator_failed", "Unreached")),
    "it is not available": (refusing(503, b""), (429, "too_busy", "busy", "Unavailable")),
    "it is overloaded": (refusing(429, openai_error(SAID)), BUSY),
    "it is overloaded as TGI says it": (refusing(429, tgi_error(SAID, "overloaded")), BUSY),
    "it refuses the request": (refusing(422, tgi_error(SAID, "validation")), REFUSED),
    "it refuses the key": (refusing(401, openai_error(SAID)), FAILED),
    "it fails": (refusing(500, SAID.encode(), "text/plain"), FAILED),
    "it closes mid-token": (cutting(SAYS + 'data: "\u4f60'.encode()[:-1], chunked=False), FAILED),
    "it closes mid-event": (cutting(SAYS + b'data: {"cho'), FAILED),
    "it ends before the finish": (blurting(SAYS), FAILED),
    "it sends invalid UTF-8": (blurting(SAYS + b'data: {"choices": "\xff"}\n\n'), FAILED),
    "it sends invalid JSON": (telling([chunk(SAID), "{" + SAID]), FAILED),
    "it sends another content type": (blurting(SAYS, "text/html"), FAILED),
    "it reports an error in its stream": (telling([chunk(SAID), openai_error(SAID)]), FAILED),
}


@pytest.mark.parametrize("trouble", UPSTREAMS)
async def test_a_model_server_in_trouble(trouble: str):
    script, (status, code, outcome, error) = UPSTREAMS[trouble]
    # Elsewhere a short patience would only see how busy this machine is.
    patience = QUICK if trouble in SLOW else DEFAULT_PATIENCE
    async with gateway_on(script, patience=patience) as gateway:
        statuses, ends = await endings(gateway)

    assert (statuses, ends) == ([status, status], {code})
    assert gateway.outcome(outcome) == 2
    assert gateway.counted("gateway_generator_errors_total", error=error) == 2
    kind = f"{status // 100}xx"
    assert gateway.counted("gateway_http_responses_total", path=PATH, status=kind) == 2


async def never_ending(reply: Reply) -> None:
    while True:
        await reply.event(chunk(SAID))


async def closing_mid_token(reply: Reply) -> None:
    await reply.event(chunk(SAID))
    await reply.write(b'data: {"choices": [{"delta": {"content": "Hi')
    reply.cut()


@pytest.mark.parametrize("trouble", [never_ending, closing_mid_token])
async def test_a_model_server_in_trouble_after_text_was_released(trouble):
    released = asyncio.Event()

    async def script(_: Asked, reply: Reply) -> None:
        await reply.start()
        await reply.event(chunk(LONG))
        await released.wait()
        await trouble(reply)

    async with (
        gateway_on(script) as gateway,
        gateway.http.stream("POST", PATH, json={**CHAT, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        first = await anext(lines)
        released.set()
        *rest, last = [line async for line in lines if line]

    assert "The fox" in first
    assert UNSAFE_WORD not in "".join([*rest, last])
    # What never ends may be found unsafe before it is found endless.
    assert '"code":"generator_failed"' in last or last == "data: [DONE]"
    assert gateway.outcome("generator_failed") + gateway.outcome("response_blocked") == 1


NAN = whole(unsafe_probability=float("nan"))
ABSENT = ([503, 503], {"guard_unavailable"}, "guard_unavailable")
CUT = ([200, 200], {"content_filter"}, "response_blocked")

GUARDS: dict[str, tuple[Guarding, tuple[list[int], set[str], str]]] = {
    "it is slow": (held_guard, ([504, 504], {"out_of_time"}, "out_of_time")),
    "it is down": (no_guard, ABSENT),
    "it is overloaded": (
        odd_guard(FullServicer()),
        ([429, 429], {"too_busy"}, "busy"),
    ),
    "it refuses the gateway": (refusing_guard(grpc.StatusCode.UNAUTHENTICATED), ABSENT),
    "it fails": (refusing_guard(grpc.StatusCode.INTERNAL), ABSENT),
    "it answers nothing": (odd_guard(ScriptedServicer()), ABSENT),
    "it answers garbage": (odd_guard(ScriptedServicer(NAN)), ABSENT),
    "it answers nothing about an answer": (guard_odd_about_answers(None), CUT),
    "it answers garbage about an answer": (guard_odd_about_answers(NAN), CUT),
    "it judges another answer": (guard_odd_about_answers(whole()), CUT),
}


@pytest.mark.parametrize("trouble", GUARDS)
async def test_a_guard_in_trouble(trouble: str):
    guarding, (statuses, ends, outcome) = GUARDS[trouble]
    patience = {"request_timeout_seconds": 1.0} if trouble == "it is slow" else {}
    async with gateway_on(answering(LONG, SAID), guarding, **patience) as gateway:
        seen = await endings(gateway)

    assert seen == (statuses, ends)
    assert gateway.outcome(outcome) == 2
    kind = f"{statuses[0] // 100}xx"
    assert gateway.counted("gateway_http_responses_total", path=PATH, status=kind) == 2


async def test_a_guard_that_goes_away_in_a_stream_and_comes_back_for_the_next_one():
    gone = asyncio.Event()

    async def in_two_parts(_: Asked, reply: Reply) -> None:
        await reply.start()
        await reply.event(chunk(LONG))
        await gone.wait()
        await reply.event(chunk(SAID))
        await reply.event(chunk(LONG, finish="stop"))
        await reply.event("[DONE]")
        await reply.end()

    servers = []

    @asynccontextmanager
    async def leaving_guard() -> AsyncIterator[str]:
        async with serving(FakeEngine()) as (server, _):
            servers.append(server)
            yield f"127.0.0.1:{server.port}"

    async with gateway_on(in_two_parts, leaving_guard) as gateway:
        body = {**CHAT, "stream": True}
        async with gateway.http.stream("POST", PATH, json=body) as response:
            lines = response.aiter_lines()
            first = await anext(lines)
            await servers[0]._server.stop(grace=None)
            gone.set()
            rest = [line async for line in lines if line]
        afterwards = await gateway.ask()

    assert "The fox" in first
    assert rest[-1] == "data: [DONE]"
    assert '"finish_reason":"content_filter"' in rest[-2]
    assert UNSAFE_WORD not in "".join(rest)
    assert (afterwards.status_code, ending_of(afterwards)) == (503, "guard_unavailable")
    assert gateway.outcome("response_blocked") == 1
    assert gateway.counted("gateway_blocks_total", phase="response", category="none") == 1


JSON = {"content-type": "application/json"}


def body(**fields: object) -> bytes:
    return json.dumps(CHAT | fields).encode()


def said(**fields: object) -> bytes:
    return body(messages=[{"role": "user", "content": "Hello", **fields}])


NO_NUMBER = {
    "type": "function",
    "function": {"name": "f", "parameters": {"a": float("nan")}},
}
INPUTS: dict[str, tuple[bytes, dict[str, str], int, str, str | None]] = {
    "malformed JSON": (b"{", {}, 400, "invalid_value", "body"),
    "invalid UTF-8": (b'{"model": "\xff"}', {}, 400, "invalid_value", "body"),
    "another type": (body(temperature="warm"), {}, 400, "invalid_value", "temperature"),
    "an unknown role": (said(role="wizard"), {}, 400, "invalid_value", "messages[0].role"),
    "no messages": (body(messages=[]), {}, 400, "invalid_value", "messages"),
    "an empty message": (said(content=""), {}, 400, "invalid_value", "messages[0].content"),
    "a parameter not supported": (body(logprobs=True), {}, 400, "invalid_value", "logprobs"),
    "a parameter not known": (body(reasoning="x"), {}, 400, "invalid_value", "reasoning"),
    "an unknown model": (body(model="other"), {}, 404, "model_not_found", "model"),
    "an unknown policy": (
        body(),
        {"x-guard-policy": "other"},
        400,
        "invalid_value",
        "x-guard-policy",
    ),
    "too many messages": (
        body(messages=CHAT["messages"] * 6),
        {},
        400,
        "invalid_value",
        "messages",
    ),
    "an oversize body": (b"x" * 5000, {}, 413, "content_too_large", None),
    "another content type": (
        body(),
        {"content-type": "text/plain"},
        415,
        "unsupported_media_type",
        None,
    ),
    "a number that is none": (
        body(
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}]
        ).replace(b'{"a": 1}', b'{"a": NaN}'),
        {},
        400,
        "invalid_value",
        "tools[0].function.parameters",
    ),
}


async def test_bad_input_is_refused_named_and_counted_and_asks_nobody():
    flags = {"max_body_bytes": 4096, "max_messages": 5}
    async with gateway_on(answering("Hi"), **flags) as gateway:
        for number, (name, given) in enumerate(INPUTS.items(), start=1):
            content, headers, status, code, param = given
            response = await gateway.http.post(PATH, content=content, headers=JSON | headers)
            problem = response.json()["error"]
            assert (response.status_code, problem["code"]) == (status, code), name
            assert problem["param"] == param, name
            refused = gateway.counted("gateway_http_responses_total", path=PATH, status="4xx")
            assert refused == number, name

    assert gateway.counted("gateway_verdicts_total", phase="prompt", result="safe") == 0


async def test_a_client_gone_mid_stream_ends_the_work_and_is_counted():
    async with gateway_on(stalling(LONG)) as gateway:
        asked = {**CHAT, "stream": True}
        async with gateway.http.stream("POST", PATH, json=asked) as response:
            assert await anext(response.aiter_lines())
        await until(lambda: gateway.outcome("cancelled"))

    assert gateway.counted("gateway_generator_errors_total", error="cancelled") == 1
    assert gateway.counted("gateway_requests_in_flight") == 0
