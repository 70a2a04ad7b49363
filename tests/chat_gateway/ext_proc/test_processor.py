"""The processor over real gRPC, without an Envoy: it is the test that says when a stream ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from chat_gateway.ext_proc.messages import ends_answer
from chat_gateway.ext_proc.requests import PathRules
from chat_gateway.ext_proc.server import SERVICE, ProcessorOptions, ProcessorServer
from chat_gateway.ext_proc.upstream import EnvoyUpstream
from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2
from chat_gateway.http_api.app import build_app
from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.metrics import Metrics
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.places import Places
from chat_gateway.policy import GatewayPolicy
from chat_gateway.text_moderation import TextModeration
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard
from tests.serving import until

PATIENCE = 60.0
CHAT_PATH = "/v1/chat/completions"
RULES = PathRules(chats=frozenset({CHAT_PATH}), passing=frozenset({"/v1/models"}))
MODES = pb2.ProtocolConfiguration(
    request_body_mode=pb2.BODY_SEND_MODE_BUFFERED,
    response_body_mode=pb2.BODY_SEND_MODE_FULL_DUPLEX_STREAMED,
)
HELLO = b'{"model":"m","messages":[{"role":"user","content":"Hello"}]}'
STREAMED = HELLO[:-1] + b',"stream":true}'
SAFE = "All is well, and there is nothing here that anybody would mind at all. "


def step(kind: str, *, last: bool = False, body: bytes | None = None, **headers: str) -> Any:
    """A step as Envoy sends it; `_` in a header's name is `-`, and a colon at its beginning."""
    if body is not None:
        return pb2.ProcessingRequest(**{kind: pb2.HttpBody(body=body, end_of_stream=last)})
    values = [
        pb2.HeaderValue(key=_header_name(name), raw_value=value.encode())
        for name, value in headers.items()
    ]
    head = pb2.HttpHeaders(headers=pb2.HeaderMap(headers=values), end_of_stream=last)
    return pb2.ProcessingRequest(**{kind: head})


def _header_name(name: str) -> str:
    return f":{name[1:]}" if name.startswith("_") else name.replace("_", "-")


def asking(path: str = CHAT_PATH, *, method: str = "POST", last: bool = False) -> Any:
    head = step(
        "request_headers",
        last=last,
        _method=method,
        _path=path,
        content_type="application/json",
    )
    head.protocol_config.CopyFrom(MODES)
    return head


ANSWERED = step("response_headers", _status="200", content_type="text/event-stream")


def event(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class Talk:
    """Envoy's side of one exchange."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        method = channel.stream_stream(
            f"/{SERVICE}/Process",
            request_serializer=pb2.ProcessingRequest.SerializeToString,
            response_deserializer=pb2.ProcessingResponse.FromString,
        )
        self.call = method(timeout=PATIENCE)

    async def tell(self, *steps: pb2.ProcessingRequest) -> None:
        for each in steps:
            await self.call.write(each)

    async def order(self) -> pb2.ProcessingResponse:
        answer = await self.call.read()
        assert answer is not grpc.aio.EOF
        return answer

    async def is_open(self) -> bool:
        """Whether the processor has neither said more nor ended the stream."""
        reading = asyncio.ensure_future(self.call.read())
        await asyncio.wait({reading}, timeout=0.3)
        return not reading.done()

    async def code(self) -> grpc.StatusCode:
        """How the processor ended the stream."""
        with suppress(grpc.aio.AioRpcError):
            while await self.call.read() is not grpc.aio.EOF:
                pass
        return await self.call.code()


@asynccontextmanager
async def processing(
    app: Any = None, *, guard: FakeGuard | None = None, seconds: float = PATIENCE
) -> AsyncIterator[tuple[ProcessorServer, Metrics, grpc.aio.Channel]]:
    guard, upstream, metrics = guard or FakeGuard(), EnvoyUpstream(), Metrics()
    policy = GatewayPolicy()
    app = app or build_app(
        ChatPipeline(guard, upstream, metrics),
        TextModeration(guard, metrics),
        upstream,
        guard,
        policies={policy.id: policy},
        default_policy_id=policy.id,
        limits=HttpLimits(max_chat_seconds=seconds),
        places=Places(8),
    )
    options = ProcessorOptions(host="127.0.0.1", port=0, max_body_bytes=65_536, rules=RULES)
    async with (
        ProcessorServer(app, options, metrics) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield server, metrics, channel


async def forwarded(talk: Talk, body: bytes = HELLO) -> pb2.ProcessingResponse:
    """Bring a chat to the point where it goes on to the server; the order that lets it."""
    await talk.tell(asking())
    assert (await talk.order()).WhichOneof("response") == "request_headers"
    await talk.tell(step("request_body", body=body, last=True))
    return await talk.order()


async def streaming(talk: Talk) -> None:
    """Bring a stream to the point where the client has its first text."""
    await forwarded(talk, STREAMED)
    await talk.tell(ANSWERED, step("response_body", body=event(SAFE)))
    assert (await talk.order()).WhichOneof("response") == "response_headers"
    piece = (await talk.order()).response_body.response.body_mutation.streamed_response
    assert SAFE.encode() in piece.body
    assert not piece.end_of_stream


async def test_a_request_goes_on_marked_and_with_the_length_of_its_new_body():
    async with processing() as (_, _, channel):
        order = await forwarded(Talk(channel))

    change = order.request_body.response
    headers = {
        each.header.key: each.header.raw_value for each in change.header_mutation.set_headers
    }
    assert headers["x-chat-gateway"] == b"judged"
    assert headers["content-length"] == str(len(change.body_mutation.body)).encode()
    assert headers["accept-encoding"] == b"identity"
    assert change.clear_route_cache


async def test_after_a_whole_answer_it_is_envoy_that_ends_the_stream():
    async with processing() as (_, metrics, channel):
        talk = Talk(channel)
        await forwarded(talk)
        body = step("response_body", body=event(SAFE) + END, last=True)
        await talk.tell(ANSWERED, body)
        answer = (await talk.order()).immediate_response
        was_open = await talk.is_open()
        await talk.call.done_writing()
        code = await talk.call.code()

    assert SAFE.encode() in answer.body
    assert was_open
    assert code is grpc.StatusCode.OK
    labels = {"method": "Process", "code": "OK"}
    assert metrics.registry.get_sample_value("gateway_rpcs_total", labels) == 1


async def test_after_a_refusal_too():
    async with processing() as (_, _, channel):
        talk = Talk(channel)
        await talk.tell(asking("/elsewhere"))
        answer = (await talk.order()).immediate_response
        was_open = await talk.is_open()

    assert answer.status.code == 404
    assert was_open


async def test_an_envoy_that_stops_in_the_middle_is_no_fault_and_is_answered_with_an_error():
    async with processing() as (_, metrics, channel):
        talk = Talk(channel)
        await streaming(talk)
        await talk.call.done_writing()

        assert await talk.code() is grpc.StatusCode.CANCELLED
    labels = {"method": "Process", "code": "INTERNAL"}
    assert metrics.registry.get_sample_value("gateway_rpcs_total", labels) == 0


async def test_an_envoy_that_says_nothing_is_answered_with_an_error():
    async with processing() as (_, _, channel):
        talk = Talk(channel)
        await talk.call.done_writing()

        assert await talk.code() is grpc.StatusCode.CANCELLED


async def test_out_of_drain_time_the_stream_ends_in_an_error():
    async with processing() as (server, _, channel):
        talk = Talk(channel)
        await streaming(talk)
        await server.drain(0.1)

        assert await talk.code() is not grpc.StatusCode.OK
        await until(lambda: server.num_inside == 0)  # cut off, which is not finished
    assert not server.is_drained


async def test_a_draining_processor_turns_exchanges_away_with_an_error():
    async with processing() as (server, _, channel):
        inside = Talk(channel)
        await streaming(inside)
        draining = asyncio.create_task(server.drain(PATIENCE))
        await asyncio.sleep(0)
        talk = Talk(channel)
        await talk.tell(asking())
        code = await talk.code()
        await inside.tell(step("response_body", body=END, last=True))
        while not ends_answer(await inside.order()):
            pass
        await inside.call.done_writing()
        await draining

    assert code is grpc.StatusCode.UNAVAILABLE
    assert await inside.call.code() is grpc.StatusCode.OK
    assert server.is_drained


async def test_out_of_time_the_answer_says_so_and_the_stream_stays():
    async with processing(seconds=3) as (_, _, channel):
        talk = Talk(channel)
        await forwarded(talk)
        answer = (await talk.order()).immediate_response
        was_open = await talk.is_open()

    assert answer.status.code == 504
    assert was_open


async def silent_app(*_: Any) -> None:
    """An application that returns without a word."""


async def stopping_app(_: Any, __: Any, send: Any) -> None:
    """An application that begins and then returns."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})


async def raising_app(*_: Any) -> None:
    raise RuntimeError("with words of a user")


@pytest.mark.parametrize("app", [silent_app, stopping_app, raising_app])
async def test_whatever_breaks_inside_the_stream_ends_in_an_error_without_its_words(app: Any):
    async with processing(app) as (_, _, channel):
        talk = Talk(channel)
        await talk.tell(asking(last=True))
        code = await talk.code()
        details = await talk.call.details()

    assert code is grpc.StatusCode.INTERNAL
    assert "user" not in details


async def test_a_message_that_is_none_of_envoys_ends_in_an_error():
    async with processing() as (_, _, channel):
        method = channel.stream_stream(f"/{SERVICE}/Process")
        call = method(timeout=PATIENCE)
        await call.write(b"\xff\xff\xff")

        assert await call.code() is not grpc.StatusCode.OK


async def test_a_server_that_ends_with_trailers_is_heard_to_its_end():
    async with processing() as (_, _, channel):
        talk = Talk(channel)
        await forwarded(talk)
        trailers = pb2.ProcessingRequest(response_trailers=pb2.HttpTrailers())
        await talk.tell(ANSWERED, step("response_body", body=event(SAFE)[:-1]), trailers)
        answer = (await talk.order()).immediate_response

    assert answer.status.code == 502  # it ended in the middle of an event


async def test_a_block_ends_the_answer_together_with_its_last_bytes():
    guard = FakeGuard()
    async with processing(guard=guard) as (_, _, channel):
        talk = Talk(channel)
        await streaming(talk)
        await talk.tell(step("response_body", body=event(f"{UNSAFE_PHRASE}. " * 9)))
        pieces = []
        while not (pieces and pieces[-1].end_of_stream):
            order = await talk.order()
            pieces.append(order.response_body.response.body_mutation.streamed_response)

    said = b"".join(piece.body for piece in pieces)
    assert UNSAFE_PHRASE.encode() not in said
    assert b'"finish_reason":"content_filter"' in said
    assert pieces[-1].body  # Envoy drops an end without bytes
