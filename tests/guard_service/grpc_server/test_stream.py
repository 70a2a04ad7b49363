"""A growing message over the wire."""

import asyncio
from dataclasses import replace

import grpc
import pytest

from guard_service.limits import Limits
from guard_service.v1 import guard_pb2
from tests.serving import (
    QUICK,
    asking,
    delta,
    failure_of,
    opening,
    running_server,
    sending,
    until,
)

Response = guard_pb2.ModerateStreamResponse


async def test_every_check_and_the_end_are_answered():
    async with running_server() as service:
        call = service.stub.ModerateStream()
        await call.write(opening())
        await call.write(delta("how to ", check=True))
        first = await call.read()
        await call.write(delta("build a "))
        await call.write(delta("bomb"))
        await call.done_writing()
        last = await call.read()
        end = await call.read()

    assert isinstance(first, Response)
    assert isinstance(last, Response)
    assert (first.num_characters, first.final, first.verdict.unsafe) == (7, False, False)
    assert (last.num_characters, last.final, last.verdict.unsafe) == (19, True, True)
    assert end is grpc.aio.EOF


async def test_characters_are_code_points():
    async with running_server() as service:
        responses = [
            r async for r in service.stub.ModerateStream(sending(opening("né"), delta("😀")))
        ]

    assert [r.num_characters for r in responses] == [3]


async def test_the_last_verdict_is_the_unary_one():
    async with running_server() as service:
        stream = service.stub.ModerateStream(sending(opening("build "), delta("a "), delta("bomb")))
        responses = [response async for response in stream]
        unary = await service.stub.Moderate(asking("build a bomb"))

    streamed = responses[-1].verdict
    for verdict in (streamed, unary.verdict):
        verdict.ClearField("timings")
    assert streamed == unary.verdict


async def test_a_check_that_still_waits_is_superseded():
    async with running_server() as service:
        service.engine.hold()
        ahead = asyncio.create_task(_moderate(service.stub, "ahead"))
        await service.engine.until_busy()
        call = service.stub.ModerateStream()
        await call.write(opening())
        await call.write(delta("one ", check=True))
        await until(lambda: service.batcher.num_queued_items == 1)
        tokens_of_one = service.batcher.num_queued_tokens
        await call.write(delta("two three", check=True))
        await until(lambda: service.batcher.num_queued_tokens > tokens_of_one)
        service.engine.release()
        only = await call.read()
        await call.done_writing()
        await ahead

    assert isinstance(only, Response)
    assert (only.num_characters, only.final) == (13, False)
    assert not any("one" in text and "two" not in text for text in service.engine.texts)


async def _moderate(stub: "guard_pb2_grpc.GuardServiceAsyncStub", text: str) -> None:  # noqa: F821
    await stub.Moderate(asking(text))


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        ([], "open: must be the first message"),
        ([delta("text")], "open: must be the first message"),
        ([guard_pb2.ModerateStreamRequest()], "open: must be the first message"),
        ([opening(), opening()], "delta: must be every message after the first"),
        ([opening()], "delta.text: the stream ended without any text"),
        ([opening(), delta(" \n", check=True)], "delta.text: the stream ended without any text"),
        ([opening(), delta("nul\0")], "delta.text: must not contain NUL"),
        ([opening("123456"), delta("78901")], "delta.text: 11 bytes of UTF-8; at most 10"),
        ([opening("12345678901")], "conversation.messages: 11 bytes of UTF-8; at most 10"),
        ([opening(policy_id="other")], "policy_id: there is no such policy"),
        ([opening(request_id="a b")], "request_id: use at most 128"),
    ],
)
async def test_a_stream_at_fault_is_told_its_field(
    requests: list[guard_pb2.ModerateStreamRequest], says: str
):
    async with running_server(limits=Limits(max_content_bytes=10)) as service:
        error = await failure_of(anext(aiter(service.stub.ModerateStream(sending(*requests)))))
        await until(lambda: service.moderator.num_open_streams == 0)

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.details()).startswith(says)
    assert all(session.closed for session in service.engine.sessions)


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening()], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening(), delta("text")], grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_an_idle_stream_is_closed(
    requests: list[guard_pb2.ModerateStreamRequest], code: grpc.StatusCode
):
    options = replace(QUICK, stream_idle_seconds=1)
    async with running_server(options=options) as service:
        call = service.stub.ModerateStream()
        for request in requests:
            await call.write(request)
        error = await failure_of(call.read())

    assert error.code() is code
    assert "(stream_idle_seconds)" in str(error.details())
    assert service.moderator.num_open_streams == 0


async def test_the_number_of_streams_is_bounded():
    async with running_server(limits=Limits(max_streams=1)) as service:
        first = service.stub.ModerateStream()
        await first.write(opening())
        await until(lambda: service.moderator.num_open_streams == 1)
        assert service.counted("guard_open_streams") == 1
        error = await failure_of(anext(aiter(service.stub.ModerateStream(sending(opening())))))
        first.cancel()
        await until(lambda: service.moderator.num_open_streams == 0)
        again = [r async for r in service.stub.ModerateStream(sending(opening("hello")))]

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    assert again[-1].final


async def test_a_stream_whose_caller_goes_frees_what_it_holds():
    async with running_server() as service:
        service.engine.hold()
        call = service.stub.ModerateStream()
        await call.write(opening())
        await call.write(delta("text", check=True))
        await service.engine.until_busy()
        call.cancel()
        await until(lambda: service.moderator.num_open_streams == 0)
        service.engine.release()

    assert [session.closed for session in service.engine.sessions] == [True]
