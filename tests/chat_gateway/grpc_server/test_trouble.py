"""Whatever is wrong with a call, it ends in a known status that repeats nothing of its text."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chat_gateway.chat import (
    GatewayError,
    GeneratorFailed,
    GuardUnavailable,
    InvalidChat,
    OutOfTime,
    TooBusy,
    UnknownModel,
)
from chat_gateway.grpc_server.status import CODES, UNEXPECTED, Status
from chat_gateway.v1 import chat_pb2
from guard_service.v1 import guard_pb2
from tests.chat_gateway.fakes import Crash, FakeGuard, ScriptedGenerator, answer
from tests.chat_gateway.grpc_server.serving import asking, running, until

SECRET = "my-secret-words"
USER, ASSISTANT = guard_pb2.ROLE_USER, guard_pb2.ROLE_ASSISTANT
TOOL = guard_pb2.ROLE_TOOL


def saying(*messages: chat_pb2.Message, **fields: object) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(prompt=chat_pb2.Prompt(messages=messages, **fields))


def message(role: int = USER, content: str = SECRET, **fields: object) -> chat_pb2.Message:
    return chat_pb2.Message(role=role, content=content, **fields)


def sampling(**fields: object) -> chat_pb2.ChatRequest:
    return saying(message(), sampling=chat_pb2.Sampling(**fields))


CALL = chat_pb2.ToolCall(id="1", name="f", arguments="{}")
WRONG = {
    "no messages": (saying(), "prompt.messages"),
    "too many messages": (saying(*[message()] * 5), "max_messages"),
    "no role": (saying(message(role=0)), "prompt.messages[0].role"),
    "unknown role": (saying(message(role=77)), "prompt.messages[0].role"),
    "blank text": (saying(message(content=" \n")), "prompt.messages[0].content"),
    "a user's tool calls": (saying(message(tool_calls=[CALL])), "prompt.messages[0].tool_calls"),
    "a tool without its call": (saying(message(role=TOOL)), "tool_call_id"),
    "temperature": (sampling(temperature=2.5), "temperature"),
    "temperature that is no number": (sampling(temperature=float("nan")), "temperature"),
    "top_p": (sampling(top_p=0.0), "top_p"),
    "max_tokens": (sampling(max_tokens=0), "max_tokens"),
    "num_choices": (sampling(num_choices=9), "num_choices"),
    "stop": (sampling(stop=[""]), "stop"),
    "tool names": (saying(message(), tools=[chat_pb2.Tool()]), "prompt.tools"),
    "tool parameters": (
        saying(message(), tools=[chat_pb2.Tool(name="f", parameters_json="[" + SECRET)]),
        "prompt.tools[0].parameters_json",
    ),
    "half a character in tool parameters": (
        saying(message(), tools=[chat_pb2.Tool(name="f", parameters_json='{"a": "\\ud800"}')]),
        "prompt.tools[0].parameters_json",
    ),
    "a number that is none in tool parameters": (
        saying(message(), tools=[chat_pb2.Tool(name="f", parameters_json='{"a": NaN}')]),
        "prompt.tools[0].parameters_json",
    ),
    "too many tools": (
        saying(message(), tools=[chat_pb2.Tool(name=f"f{i}") for i in range(129)]),
        "max_tools",
    ),
    "too many stops": (sampling(stop=["a"] * 5), "max_stops"),
    "unknown tool": (
        saying(message(), tool_choice=chat_pb2.ToolChoice(name=SECRET)),
        "prompt.tool_choice.name",
    ),
    "unknown tool mode": (
        saying(message(), tool_choice=chat_pb2.ToolChoice(mode=0)),
        "prompt.tool_choice.mode",
    ),
    "no tool to require": (
        saying(message(), tool_choice=chat_pb2.ToolChoice(mode=chat_pb2.TOOL_MODE_REQUIRED)),
        "prompt.tool_choice.mode",
    ),
    "request id": (chat_pb2.ChatRequest(request_id=SECRET + "\n"), "request_id"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_request_is_refused_by_the_name_of_its_field(name: str):
    request, field = WRONG[name]
    guard = FakeGuard()
    async with running(guard, ScriptedGenerator([]), max_messages=4) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(request)

    details = failure.value.details() or ""
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in details
    assert SECRET not in details
    assert guard.calls == []


async def test_bytes_that_are_no_request_are_the_callers_fault():
    async with running(FakeGuard(), ScriptedGenerator([])) as gateway:
        call = gateway.channel.unary_unary("/chat_gateway.v1.ChatService/Chat")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(b"\xff\xff\xff")

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(failure.value.trailing_metadata() or ())["gateway-request-id"]


async def test_a_method_that_does_not_exist_is_counted_as_such():
    async with running(FakeGuard(), ScriptedGenerator([])) as gateway:
        call = gateway.channel.unary_unary("/chat_gateway.v1.ChatService/Shout")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(b"")

    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert gateway.counted("other", "UNIMPLEMENTED") == 1


async def test_a_message_over_the_limit_is_refused_by_the_transport():
    async with running(FakeGuard(), ScriptedGenerator([]), max_message_bytes=1000) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking("x" * 2000))

    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unforeseen_error_is_neither_told_nor_logged(caplog, capsys):
    generator = ScriptedGenerator([Crash(RuntimeError(SECRET))])
    async with running(FakeGuard(), generator) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking())

    logged = caplog.text + "".join(capsys.readouterr())
    assert failure.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
    assert SECRET not in (failure.value.details() or "") + str(failure.value.trailing_metadata())
    assert SECRET not in logged


async def test_no_text_of_a_conversation_is_logged(caplog, capsys):
    async with running(FakeGuard(), ScriptedGenerator(answer("Indeed " + SECRET))) as gateway:
        await gateway.stub.Chat(asking(SECRET))

    assert SECRET not in caplog.text + "".join(capsys.readouterr())


async def test_health_says_alive_at_once_and_ready_when_told():
    async with running(FakeGuard(), ScriptedGenerator([])) as gateway:
        health = health_pb2_grpc.HealthStub(gateway.channel)

        async def status(service: str) -> int:
            return (await health.Check(health_pb2.HealthCheckRequest(service=service))).status

        before = [await status(name) for name in ("live", "ready", "")]
        await gateway.server.show_ready(ready=True)
        after = [await status(name) for name in ("live", "ready", "")]

    serving, waiting = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    assert before == [serving, waiting, waiting]
    assert after == [serving, serving, serving]


async def test_a_draining_server_finishes_what_it_accepted_and_takes_no_more():
    guard = FakeGuard()
    guard.hold()
    async with running(guard, ScriptedGenerator(answer("Fine."))) as gateway:
        accepted = asyncio.ensure_future(gateway.stub.Chat(asking()))
        await until(lambda: guard.calls)
        draining = asyncio.create_task(gateway.server.drain(60.0))
        await asyncio.sleep(0)  # the server hears of it
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await gateway.stub.Chat(asking(), timeout=60)
        guard.release()
        response = await accepted
        await draining

    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert response.choices[0].content == "Fine."
    assert gateway.server.is_drained


async def test_what_a_drain_cuts_off_is_not_finished():
    guard = FakeGuard()
    guard.hold()
    async with running(guard, ScriptedGenerator(answer("Fine."))) as gateway:
        accepted = asyncio.ensure_future(gateway.stub.Chat(asking()))
        await until(lambda: guard.calls)
        await gateway.server.drain(0.1)
        with pytest.raises(grpc.aio.AioRpcError):
            await accepted
        await until(lambda: gateway.server.num_inside == 0)

    assert not gateway.server.is_drained


def test_every_error_of_the_tree_has_a_status():
    tree = {
        each for each in GatewayError.__subclasses__() if each.__module__ == InvalidChat.__module__
    }

    assert set(CODES) == {*tree, UnknownModel}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidChat("model", "wrong"), grpc.StatusCode.INVALID_ARGUMENT),
        (UnknownModel("model", "wrong"), grpc.StatusCode.NOT_FOUND),
        (TooBusy("busy", 0.5), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (GuardUnavailable("away"), grpc.StatusCode.UNAVAILABLE),
        (GeneratorFailed("broken"), grpc.StatusCode.UNAVAILABLE),
        (OutOfTime("late"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (ValueError(SECRET), grpc.StatusCode.INTERNAL),
    ],
)
def test_an_error_has_its_status(error: Exception, code: grpc.StatusCode):
    status = Status.of(error)

    assert status.code is code
    assert SECRET not in status.message


def test_an_unforeseen_error_gets_a_fixed_sentence():
    assert Status.of(ValueError(SECRET)) == Status(grpc.StatusCode.INTERNAL, UNEXPECTED)
