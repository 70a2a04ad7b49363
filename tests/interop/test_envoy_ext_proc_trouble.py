"""What a client behind Envoy sees when a part of the judging fails: never text nobody judged."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest

from chat_gateway.ext_proc.server import SERVICE
from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2
from tests.chat_gateway.upstreams import Asked, Reply, Upstream, answering, chunk, running_upstream
from tests.interop.envoy import Envoy, configuration, running_envoy
from tests.interop.judging_envoy import (
    CANARY,
    CONFIG,
    PATIENCE,
    Judged,
    Tap,
    filter_of,
    in_front_of,
    judging,
    processor_healthy,
    running_processor,
)
from tests.serving import running_server

SAFE = "Water boils at one hundred degrees at sea level, and sooner on a mountain. "
CHAT = {"model": "stub", "messages": [{"role": "user", "content": "Hello"}]}
FORGED = {"x-chat-gateway": "judged"}


class Pause:
    """A model's server that says something safe, waits, and then goes on with a canary."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.gone_on = asyncio.Event()

    async def __call__(self, _: Asked, reply: Reply) -> None:
        await reply.start()
        await reply.event(chunk(SAFE))
        await self.go_on.wait()
        try:
            for _turn in range(20):
                await reply.event(chunk(f"And {CANARY}, it says. "))
            for event in (chunk("", finish="stop"), "[DONE]"):
                await reply.event(event)
            await reply.end()
        finally:
            self.gone_on.set()


@pytest.fixture
def envoy(needs_binary: Callable[[str], str]) -> str:
    return needs_binary("envoy")


async def begun(judged: Judged, pause: Pause) -> Any:
    """A stream whose first text has been seen."""
    judged.switch.script = pause
    stream = await judged.chat(stream=True)
    async with asyncio.timeout(PATIENCE):
        first = await anext(aiter(stream))
    assert first.choices[0].delta.content == SAFE
    return stream


async def rest_of(stream: Any) -> list:
    """The other chunks of a stream."""
    async with asyncio.timeout(PATIENCE):
        return [each async for each in stream]


async def test_without_a_guard_no_prompt_passes(envoy: str, tmp_path: Path):
    async with judging(envoy, tmp_path) as judged:
        judged.switch.script = answering(CANARY)
        await judged.guard.server.drain()
        with pytest.raises(openai.InternalServerError) as caught:
            await judged.chat()
        num_asked = len(judged.upstream.chats)

    assert caught.value.status_code == 503
    assert num_asked == 0


async def test_a_guard_lost_on_the_way_ends_the_answer(envoy: str, tmp_path: Path):
    pause = Pause()
    async with judging(envoy, tmp_path) as judged:
        stream = await begun(judged, pause)
        judged.guard.engine.hold()  # what comes now is never judged
        pause.go_on.set()
        await judged.guard.engine.until_busy()
        await judged.guard.server._server.stop(grace=None)
        chunks = await rest_of(stream)

    assert chunks[-1].choices[0].finish_reason == "content_filter"
    assert CANARY.encode() not in judged.tap.received


async def test_a_processor_killed_on_the_way_ends_the_answer(envoy: str, tmp_path: Path):
    pause = Pause()
    async with judging(envoy, tmp_path) as judged:
        stream = await begun(judged, pause)
        judged.processor.process.kill()
        await judged.processor.exited()
        pause.go_on.set()
        with pytest.raises((httpx.HTTPError, openai.APIError)):
            await rest_of(stream)
        with pytest.raises(openai.InternalServerError) as caught:
            await judged.chat()
        num_asked = len(judged.upstream.chats)

    assert caught.value.status_code == 503
    assert num_asked == 1
    assert CANARY.encode() not in judged.tap.received


async def test_a_processor_told_to_stop_finishes_the_answer_and_takes_no_other(
    envoy: str, tmp_path: Path
):
    async def patient(_: Asked, reply: Reply) -> None:
        await reply.start()
        await reply.event(chunk(SAFE))
        await go_on.wait()
        for event in (chunk("The end."), chunk("", finish="stop"), "[DONE]"):
            await reply.event(event)
        await reply.end()

    go_on = asyncio.Event()
    async with judging(envoy, tmp_path) as judged:
        judged.switch.script = patient
        stream = await judged.chat(stream=True)
        await anext(aiter(stream))
        judged.processor.process.send_signal(signal.SIGTERM)
        await no_longer_ready(judged)
        with pytest.raises(openai.InternalServerError) as caught:
            await judged.chat()
        go_on.set()
        chunks = await rest_of(stream)
        status = await judged.processor.exited()

    assert caught.value.status_code == 503
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "The end."
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert status == 0


async def no_longer_ready(judged: Judged) -> None:
    async with asyncio.timeout(PATIENCE):
        while not any('"event": "draining"' in line for line in judged.processor.log):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while await judged.envoy.counted("cluster.ext-proc.membership_healthy"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_processor_out_of_drain_time_ends_the_answer_with_an_error(
    envoy: str, tmp_path: Path
):
    pause = Pause()
    async with judging(envoy, tmp_path, "--drain-seconds", "0.5") as judged:
        stream = await begun(judged, pause)
        judged.processor.process.send_signal(signal.SIGTERM)
        status = await judged.processor.exited()
        pause.go_on.set()
        with pytest.raises((httpx.HTTPError, openai.APIError)):
            await rest_of(stream)
        num_failed = await judged.envoy.counted("http.chat.ext_proc.streams_failed")

    assert (status, num_failed) == (1, 1)
    assert CANARY.encode() not in judged.tap.received


@pytest.mark.parametrize("stream", [False, True])
async def test_out_of_time_the_client_is_told_so(envoy: str, tmp_path: Path, *, stream: bool):
    pause = Pause()
    async with judging(envoy, tmp_path, "--request-timeout-seconds", "2") as judged:
        if stream:
            with pytest.raises(openai.APIError) as caught:
                await rest_of(await begun(judged, pause))
        else:
            judged.switch.script = pause
            with pytest.raises(openai.APIStatusError) as caught:
                await judged.chat()

    assert caught.value.code == "out_of_time"
    assert CANARY.encode() not in judged.tap.received


async def test_an_envoy_that_keeps_bodies_to_itself_gets_nothing_through(
    envoy: str, tmp_path: Path
):
    wrong = [
        {"processing_mode": {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"}},
        {"processing_mode": {"request_body_mode": "BUFFERED", "response_body_mode": "STREAMED"}},
        {"processing_mode": {"request_body_mode": "NONE", "response_body_mode": "BUFFERED"}},
        {"observability_mode": True},
    ]
    statuses = []
    async with (
        running_upstream(answering(CANARY)) as upstream,
        running_server() as guard,
        running_processor(guard.target) as processor,
    ):
        ports = {"ext-proc": processor.port, "model": httpx.URL(upstream.base_url).port}
        for changes in wrong:
            async with in_front_of(envoy, tmp_path, ports, **changes) as (other, _, http):
                await processor_healthy(other)
                answer = await http.post("/v1/chat/completions", json=CHAT)
                statuses.append(answer.status_code)

    assert statuses == [500, 500, 500, 503]
    assert upstream.chats == []


@pytest.mark.parametrize("headers", [{}, FORGED], ids=["honest", "forged"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"grpc_service": {"envoy_grpc": {"cluster_name": "nowhere"}}}],
    ids=["nobody listens", "no such cluster"],
)
async def test_without_a_processor_nothing_passes(
    envoy: str, tmp_path: Path, headers: dict, changes: dict
):
    async with running_upstream(answering(CANARY)) as upstream:
        ports = {"ext-proc": 1, "model": httpx.URL(upstream.base_url).port}
        async with in_front_of(envoy, tmp_path, ports, **changes) as (_, _tap, http):
            answer = await http.post("/v1/chat/completions", json=CHAT, headers=headers)

    assert answer.status_code == 503
    assert upstream.chats == []


class Deserter:
    """A processor that is wrong on purpose: it ends its stream well before the exchange is over.

    It deserts `at` the first step of that name, and lets everything before it by.
    """

    def __init__(self, at: str) -> None:
        self._at = at

    async def process(
        self, steps: AsyncIterator[pb2.ProcessingRequest], _: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb2.ProcessingResponse]:
        async for step in steps:
            kind = step.WhichOneof("request")
            if kind == self._at:
                return
            yield let_by(kind)


def let_by(kind: str | None) -> pb2.ProcessingResponse:
    mark = pb2.HeaderValueOption(
        header=pb2.HeaderValue(key="x-chat-gateway", raw_value=b"judged"), append_action=2
    )
    marked = pb2.CommonResponse(
        header_mutation=pb2.HeaderMutation(set_headers=[mark]), clear_route_cache=True
    )
    match kind:
        case "request_headers":
            return pb2.ProcessingResponse(request_headers=pb2.HeadersResponse())
        case "request_body":
            return pb2.ProcessingResponse(request_body=pb2.BodyResponse(response=marked))
        case _:
            return pb2.ProcessingResponse(response_headers=pb2.HeadersResponse())


@asynccontextmanager
async def behind_a_deserter(
    program: str, folder: Path, at: str, *, guarded_routes: bool = True
) -> AsyncIterator[tuple[httpx.AsyncClient, Tap, Upstream]]:
    """Envoy with such a processor, and a server whose answer ends in a canary."""
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        Deserter(at).process,
        request_deserializer=pb2.ProcessingRequest.FromString,
        response_serializer=pb2.ProcessingResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(SERVICE, {"Process": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    late = Late()
    async with running_upstream(late) as upstream:
        model = httpx.URL(upstream.base_url).port
        config = configuration(CONFIG, {"ext-proc": port, "model": model})
        del config["static_resources"]["clusters"][0]["health_checks"]  # a deserter has none
        if not guarded_routes:
            open_all_routes(config)
        tap = Tap()
        async with (
            running_envoy(program, config, folder) as late.envoy,
            httpx.AsyncClient(base_url=late.envoy.url, transport=tap, timeout=PATIENCE) as http,
        ):
            yield http, tap, upstream
    await server.stop(grace=None)


class Late:
    """A server that says its canary when Envoy has noticed that its processor is gone."""

    envoy: Envoy

    async def __call__(self, _: Asked, reply: Reply) -> None:
        await reply.start()
        await reply.event(chunk(SAFE))
        await self.envoy.until("http.chat.ext_proc.streams_closed")
        await reply.event(chunk(CANARY))
        await reply.end()


def open_all_routes(config: dict[str, Any]) -> None:
    """Send everything to the model's server, as most configurations do."""
    listener = config["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    [host] = manager["route_config"]["virtual_hosts"]
    host["routes"] = [{"match": {"prefix": "/"}, "route": {"cluster": "model"}}]


@pytest.mark.parametrize("headers", [{}, FORGED], ids=["honest", "forged"])
@pytest.mark.parametrize("at", ["request_headers", "request_body"])
async def test_our_routes_hold_what_a_processor_deserted_before_it_was_judged(
    envoy: str, tmp_path: Path, at: str, headers: dict
):
    async with behind_a_deserter(envoy, tmp_path, at) as (http, _, upstream):
        answer = await http.post("/v1/chat/completions", json=CHAT, headers=headers)

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "guard_unavailable"
    assert upstream.chats == []


@pytest.mark.parametrize(
    ("at", "guarded_routes"),
    [("request_headers", False), ("response_headers", True), ("response_body", True)],
)
async def test_envoy_itself_goes_on_without_a_processor_that_ends_its_stream_well(
    envoy: str, tmp_path: Path, at: str, *, guarded_routes: bool
):
    """Not ours: what Envoy 1.40 does, and why our processor never ends a stream itself."""
    deserted = behind_a_deserter(envoy, tmp_path, at, guarded_routes=guarded_routes)
    async with deserted as (http, tap, _):
        answer = await http.post("/v1/chat/completions", json=CHAT)

    assert answer.status_code == 200
    assert CANARY.encode() in tap.received


def test_the_configuration_names_every_way_it_is_closed():
    chosen = filter_of(configuration(CONFIG, {"ext-proc": 1, "model": 1}))

    assert chosen["failure_mode_allow"] is False
    assert chosen["allow_mode_override"] is False
    assert chosen["observability_mode"] is False
    assert chosen["processing_mode"]["request_body_mode"] == "BUFFERED"
    assert chosen["processing_mode"]["response_body_mode"] == "FULL_DUPLEX_STREAMED"
