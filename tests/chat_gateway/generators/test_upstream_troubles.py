"""Everything a model server can do wrong ends in an error in our words, never in its own."""

import asyncio
import json
import logging
import socket
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chat_gateway.chat import (
    ChatMessage,
    ChatRequest,
    GatewayError,
    GeneratorFailed,
    InvalidChat,
    OutOfTime,
    Sampling,
    TextDelta,
    TooBusy,
)
from chat_gateway.generators.openai import OpenAIGenerator
from chat_gateway.generators.upstream import Patience
from guard_service.moderation import ConfigurationError, Role
from tests.chat_gateway.upstreams import (
    EVENTS,
    Script,
    Upstream,
    answering,
    blurting,
    chunk,
    cutting,
    endless,
    in_turn,
    openai_error,
    refusing,
    running_upstream,
    silent,
    stalling,
    telling,
    tgi_error,
    usage_chunk,
)

SECRET = "the server's secret words"
KEY = "sk-secret"
HELLO = ChatRequest((ChatMessage(Role.USER, "Hello"),), "stub")
SAYS_HI = b"data: " + json.dumps(chunk("Hi")).encode() + b"\n\n"
FINISHES = b"data: " + json.dumps(chunk(finish="stop")).encode() + b"\n\n"


@asynccontextmanager
async def generator_on(
    script: Script, **options
) -> AsyncIterator[tuple[OpenAIGenerator, Upstream]]:
    async with running_upstream(script) as upstream:
        generator = OpenAIGenerator(
            base_url=upstream.base_url, models=("stub",), api_key=KEY, **options
        )
        yield generator, upstream
        await generator.close()


async def heard(
    generator: OpenAIGenerator, *, seconds: float = 60, request: ChatRequest = HELLO
) -> tuple[str, GatewayError | None]:
    """All the text that came, and the error it ended in."""
    text = ""
    try:
        async for event in generator.generate(request, deadline=time.monotonic() + seconds):
            text += event.text if isinstance(event, TextDelta) else ""
    except GatewayError as error:
        return text, error
    return text, None


def is_discreet(error: GatewayError | None) -> bool:
    """Whether an error, and all that a traceback would print of it, is in our own words."""
    return error is not None and SECRET not in "".join(traceback.format_exception(error))


def tool_piece(**function: str) -> dict:
    return chunk(delta={"tool_calls": [{"index": 0, "function": function}]})


BROKEN_STREAMS = {
    "it closes mid-event": cutting(SAYS_HI + b'data: {"choices": [{"del'),
    "it closes mid-event without a length": cutting(SAYS_HI + b'data: {"cho', chunked=False),
    "it closes mid-character": cutting(SAYS_HI + 'data: "\u4f60'.encode()[:-1], chunked=False),
    "it ends mid-event": blurting(SAYS_HI + b'data: {"choices": []'),
    "it closes before the finish": cutting(SAYS_HI, chunked=False),
    "it ends before the finish": blurting(SAYS_HI),
    "it says it is done before the finish": telling([chunk("Hi")]),
    "it sends invalid UTF-8": blurting(SAYS_HI + b'data: {"choices": "\xff\xfe"}\n\n'),
    "it sends half a character": telling([chunk("Hi"), chunk("\ud83d"), chunk(finish="stop")]),
    "it sends invalid JSON": telling(["{" + SECRET]),
    "it sends JSON nested without end": telling(["[" * 100_000]),
    "it sends a list": telling([[SECRET]]),
    "it sends a number for text": telling([chunk(delta={"content": 7}), chunk(finish="stop")]),
    "it sends a strange finish": telling([chunk("Hi"), chunk(finish=SECRET)]),
    "it sends a choice nobody asked for": telling([chunk("Hi", choice=1, finish="stop")]),
    "it sends a negative choice": telling([chunk("Hi", choice=-1, finish="stop")]),
    "it writes on after the end": telling([chunk("Hi", finish="stop"), chunk(SECRET)]),
    "it sends a nameless tool call": telling([tool_piece(), chunk(finish="tool_calls")]),
    "it gives a tool call another name": telling(
        [tool_piece(name="look"), tool_piece(name="kill"), chunk(finish="tool_calls")]
    ),
    "it counts more tokens than there are": telling(
        [chunk("Hi"), usage_chunk(2**31, 1), chunk(finish="stop")]
    ),
    "it reports an error": telling([chunk("Hi"), openai_error(SECRET, "server_error")]),
    "it reports an error as TGI does": telling([chunk("Hi"), tgi_error(SECRET, "generation")]),
    "it ends mid-event after the finish": blurting(SAYS_HI + FINISHES + b'data: {"choices"'),
    "it answers in JSON": blurting(json.dumps(chunk(SECRET)).encode(), "application/json"),
    "it calls its events JSON": blurting(SAYS_HI + FINISHES, "application/json"),
    "it compresses its answer": refusing(200, SAYS_HI + FINISHES, EVENTS, content_encoding="br"),
    "it answers in HTML": blurting(SECRET.encode(), "text/html; charset=utf-8"),
    "it redirects": refusing(302, SECRET, location="http://127.0.0.1:1/"),
    "it refuses the key": refusing(401, openai_error(SECRET)),
    "it has no such model": refusing(404, openai_error(SECRET)),
    "it fails": refusing(500, SECRET.encode() * 1000, "text/plain"),
    "it fails as TGI does": refusing(424, tgi_error(SECRET, "generation")),
    "it talks no HTTP": lambda _, reply: reply.raw(SECRET.encode() + b"\r\n\r\n"),
}


@pytest.mark.parametrize("script", BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
async def test_a_broken_answer_is_a_failure_in_our_own_words(script: Script):
    async with generator_on(script) as (generator, _):
        text, error = await heard(generator)

    assert type(error) is GeneratorFailed
    assert is_discreet(error)
    assert text in ("", "Hi")


async def test_a_connection_closed_without_an_answer_is_a_failure():
    async def closing(_, reply) -> None:
        reply.cut()

    async with generator_on(closing) as (generator, _):
        text, error = await heard(generator)

    assert (text, type(error)) == ("", GeneratorFailed)


async def test_an_endless_answer_is_given_up_and_its_connection_closed():
    async with generator_on(endless, max_answer_bytes=100_000) as (generator, upstream):
        text, error = await heard(generator)
        await asyncio.wait_for(upstream.left.wait(), 30)

    assert type(error) is GeneratorFailed
    assert len(text) < 100_000


@pytest.mark.parametrize("separator", [b"", b"\n", b"\ndata: "])
async def test_an_endless_event_is_given_up(separator: bytes):
    async def endless_event(_, reply) -> None:
        await reply.start()
        await reply.write(b"data: ")
        while True:
            await reply.write(b"x" * 1000 + separator)

    async with generator_on(endless_event, max_event_bytes=10_000, max_answer_bytes=10**6) as (
        generator,
        _,
    ):
        text, error = await heard(generator)

    assert (text, type(error)) == ("", GeneratorFailed)


async def test_a_silent_server_costs_the_patience_for_a_first_byte():
    patience = Patience(first_byte_seconds=2)
    async with generator_on(silent, patience=patience) as (generator, upstream):
        _, error = await heard(generator)
        await asyncio.wait_for(upstream.left.wait(), 30)

    assert type(error) is GeneratorFailed
    assert "too slow" in str(error)


async def test_a_server_silent_after_its_headers_costs_the_same_patience():
    patience = Patience(first_byte_seconds=0.3, between_chunks_seconds=3600)
    async with generator_on(stalling(), patience=patience) as (generator, _):
        _, error = await heard(generator)

    assert "too slow" in str(error)


async def test_a_server_that_stalls_in_an_answer_costs_the_patience_between_chunks():
    patience = Patience(first_byte_seconds=3600, between_chunks_seconds=2)
    async with generator_on(stalling("Hi"), patience=patience) as (generator, _):
        text, error = await heard(generator)

    assert text == "Hi"
    assert type(error) is GeneratorFailed


@pytest.mark.parametrize("script", [silent, stalling("Hi"), endless], ids=str)
async def test_the_deadline_ends_any_answer(script: Script):
    async with generator_on(script, max_answer_bytes=2**40) as (generator, upstream):
        _, error = await heard(generator, seconds=2)
        await asyncio.wait_for(upstream.left.wait(), 30)

    assert type(error) is OutOfTime


async def test_a_passed_deadline_asks_nothing():
    async with generator_on(answering("Hi")) as (generator, upstream):
        _, error = await heard(generator, seconds=-1)

    assert type(error) is OutOfTime
    assert upstream.asked == []


@pytest.mark.parametrize(
    ("script", "pause"),
    [
        (refusing(429, openai_error(SECRET), retry_after="7"), 7.0),
        (refusing(429, tgi_error(SECRET, "overloaded")), 1.0),
        (refusing(503, tgi_error(SECRET, "healthcheck"), retry_after="9999"), 60.0),
        (refusing(503, SECRET.encode(), "text/plain", retry_after="soon"), 1.0),
        (telling([tgi_error(SECRET, "overloaded")]), 1.0),
    ],
)
async def test_a_busy_server_makes_us_busy(script: Script, pause: float):
    async with generator_on(script) as (generator, _):
        _, error = await heard(generator)

    assert isinstance(error, TooBusy)
    assert error.retry_after_seconds == pause
    assert is_discreet(error)


@pytest.mark.parametrize(
    "script",
    [
        refusing(400, openai_error(SECRET)),
        refusing(413, SECRET.encode(), "text/plain"),
        refusing(422, tgi_error(SECRET, "validation")),
        telling([tgi_error(SECRET, "validation")]),
    ],
)
async def test_a_request_the_server_calls_invalid_is_the_callers_fault(script: Script):
    async with generator_on(script) as (generator, _):
        _, error = await heard(generator)

    assert isinstance(error, InvalidChat)
    assert error.param == "messages"
    assert is_discreet(error)


async def test_an_unavailable_server_is_tried_again_before_the_first_byte():
    script = in_turn(refusing(503, b""), refusing(503, b""), answering("Hi"))
    async with generator_on(script) as (generator, upstream):
        text, error = await heard(generator)

    assert (text, error) == ("Hi", None)
    assert len(upstream.chats) == 3


@pytest.mark.parametrize(
    ("script", "num_attempts"),
    [
        (refusing(503, b""), 3),
        (refusing(429, b""), 1),
        (refusing(500, b""), 1),
        (cutting(SAYS_HI), 1),
        (telling([tgi_error("", "overloaded")]), 1),
    ],
)
async def test_tries_are_few_and_never_after_the_first_byte(script: Script, num_attempts: int):
    async with generator_on(script) as (generator, upstream):
        await heard(generator)

    assert len(upstream.chats) == num_attempts


async def test_a_server_nobody_runs_cannot_be_reached():
    async with running_upstream(answering("Hi")) as upstream:
        pass
    generator = OpenAIGenerator(base_url=upstream.base_url, models=("stub",), api_key=KEY)
    _, error = await heard(generator)
    await generator.close()

    assert isinstance(error, GeneratorFailed)
    assert str(error) == "the model's server cannot be reached"


async def test_a_server_that_accepts_nobody_costs_the_patience_to_connect():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.settimeout(0)
            client.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        generator = OpenAIGenerator(
            base_url=f"http://127.0.0.1:{port}",
            models=("stub",),
            patience=Patience(connect_seconds=0.3),
        )
        _, error = await heard(generator)
        await generator.close()
        for client in waiting:
            client.close()

    assert isinstance(error, GeneratorFailed)


async def test_more_requests_than_connections_are_turned_away():
    patience = Patience(connect_seconds=2)
    async with generator_on(stalling(), patience=patience, max_connections=1) as (generator, up):
        first = asyncio.create_task(heard(generator))
        await asyncio.wait_for(up.reached.wait(), 30)
        _, error = await heard(generator)
        first.cancel()
        await asyncio.wait([first])

    assert isinstance(error, TooBusy)


async def test_an_unknown_tgi_choice_count_is_a_failure_not_a_silent_one():
    two = ChatRequest(HELLO.messages, "stub", Sampling(num_choices=2))
    async with generator_on(telling([chunk("Hi", finish="stop")])) as (generator, _):
        _, error = await heard(generator, request=two)

    assert type(error) is GeneratorFailed


async def test_neither_key_nor_texts_are_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    for script in (refusing(401, openai_error(SECRET)), telling(["{" + SECRET])):
        async with generator_on(script) as (generator, _):
            await heard(generator)

    assert caplog.records
    assert all(KEY not in line and SECRET not in line for line in caplog.messages)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://server/v1",
        "file:///etc/passwd",
        "unix:/run/socket",
        "server:8000",
        "",
        "http://",
        "http://user:password@server/v1",
        "http://user@server/v1",
        "http://ok\\@evil/v1",
        "http://server/v1?key=1",
        "http://server/v1#x",
        "http://169.254.169.254/latest",
        "http://[::ffff:127.0.0.1]/v1",
        "http://[fe80::1]/v1",
        "http://0.0.0.0/v1",
        "http://server:99999999/v1",
    ],
)
def test_an_address_that_can_be_no_model_server_is_refused(address: str):
    with pytest.raises(ConfigurationError, match=r"^upstream address: ") as raised:
        OpenAIGenerator(base_url=address, models=("stub",))

    assert "password" not in str(raised.value).replace("user name or password", "")


@pytest.mark.parametrize("key", ["sk\nX-Evil: 1", "sk 1", "sch\u00fcssel"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_untold(key: str):
    with pytest.raises(ConfigurationError, match=r"^upstream key: ") as raised:
        OpenAIGenerator(base_url="http://server/v1", models=("stub",), api_key=key)

    assert key not in str(raised.value)
