"""Requests at fault: each is refused with its field and its limit, and none reaches the model."""

import grpc
import pytest

from guard_service.grpc_server.options import max_message_bytes
from guard_service.limits import Limits
from guard_service.v1 import guard_pb2
from tests.fakes import FakeEngine
from tests.serving import asking, conversation, failure_of, running_server

SMALL = Limits(
    max_messages=3, max_content_bytes=200, max_windows=2, max_batch_conversations=2, max_streams=1
)
MODERATE = "/guard_service.v1.GuardService/Moderate"


def with_role(role: int) -> guard_pb2.ModerateRequest:
    request = asking("a", "b", "c")
    request.conversation.messages[2].role = role
    return request


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asking(), "conversation.messages: at least one"),
        (asking(""), "conversation.messages[0].content: must not be empty or blank"),
        (asking("hi", " \n\t "), "conversation.messages[1].content: must not be empty or blank"),
        (with_role(0), "conversation.messages[2].role: unknown role 0; use one of ROLE_USER"),
        (with_role(99), "conversation.messages[2].role: unknown role 99"),
        (asking("1", "2", "3", "4"), "conversation.messages: 4 messages; at most 3"),
        (asking("é" * 101), "conversation.messages: 202 bytes of UTF-8; at most 200"),
        (asking("hi", policy_id="other"), "policy_id: there is no such policy"),
        (asking("nul\0"), "conversation.messages[0].content: must not contain NUL"),
        (asking("hi", request_id="a b"), "request_id: use at most 128 of the characters"),
        (asking("hi", request_id="a" * 129), "request_id: use at most 128 of the characters"),
    ],
)
async def test_a_request_at_fault_is_told_its_field(request_: guard_pb2.ModerateRequest, says: str):
    async with running_server(limits=SMALL) as service:
        error = await failure_of(service.stub.Moderate(request_))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.details()).startswith(says)
    assert service.engine.texts == []
    assert service.counted("guard_requests_total", method="Moderate", code="INVALID_ARGUMENT") == 1


@pytest.mark.parametrize(
    "request_",
    [asking("1", "2", "3"), asking("é" * 100), asking("hi", request_id="a" * 128)],
)
async def test_a_request_at_its_limit_is_judged(request_: guard_pb2.ModerateRequest):
    async with running_server(limits=SMALL) as service:
        response = await service.stub.Moderate(request_)

    assert response.verdict.HasField("unsafe")


async def test_more_windows_than_allowed_are_refused():
    words = " ".join(["word"] * 5000)
    engine = FakeEngine(max_context_tokens=1000)
    async with running_server(engine, limits=Limits(max_windows=2)) as service:
        error = await failure_of(service.stub.Moderate(asking(words)))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "(max_windows)" in str(error.details())
    assert engine.texts == []


@pytest.mark.parametrize("num_conversations", [0, 3])
async def test_a_batch_of_the_wrong_size_is_refused(num_conversations: int):
    request = guard_pb2.ModerateBatchRequest(conversations=[conversation("hi")] * num_conversations)
    async with running_server(limits=SMALL) as service:
        error = await failure_of(service.stub.ModerateBatch(request))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"conversations: {num_conversations} given, 1 to 2 allowed"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x12\x02\xff\xfe",  # policy_id: two bytes that are not UTF-8
        b"\x0a\x08\x0a\x06\x08\x01\x12\x02\xed\xa0",  # content: half of a lone surrogate
        b"\x0a\xff",  # a length that runs past the end
        b"\xff\xff\xff",  # not protobuf at all
    ],
)
async def test_bytes_that_are_no_request_are_the_callers_fault(raw: bytes):
    async with running_server() as service:
        error = await failure_of(service.channel.unary_unary(MODERATE)(raw))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.details()).startswith("request: not a message of this method")
    assert service.counted("guard_requests_total", method="Moderate", code="INVALID_ARGUMENT") == 1


async def test_bytes_that_are_no_request_end_a_stream():
    async with running_server() as service:
        call = service.channel.stream_stream("/guard_service.v1.GuardService/ModerateStream")
        error = await failure_of(anext(aiter(call([b"\x0a\xff"]))))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_beyond_the_largest_batch_never_reaches_a_handler():
    async with running_server(limits=SMALL) as service:
        error = await failure_of(service.stub.Moderate(asking("x" * max_message_bytes(SMALL))))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" not in dict(error.trailing_metadata())


async def test_metadata_is_bounded():
    async with running_server() as service:
        error = await failure_of(
            service.stub.Moderate(asking("hi"), metadata=[("x-large", "x" * 20_000)])
        )

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method_is_counted():
    async with running_server() as service:
        error = await failure_of(service.channel.unary_unary("/guard_service.v1.X/Y")(b""))

    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert service.counted("guard_requests_total", method="other", code="UNIMPLEMENTED") == 1
