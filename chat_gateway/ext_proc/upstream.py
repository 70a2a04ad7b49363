"""The generator that is the server behind Envoy: its answer arrives over the processor's stream."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from contextvars import ContextVar
from http import HTTPStatus
from typing import Protocol, TypeVar

from chat_gateway.chat import (
    ChatRequest,
    GatewayError,
    GeneratorEvent,
    GeneratorFailed,
    OutOfTime,
    ServerRefused,
    TooBusy,
)
from chat_gateway.ext_proc.envoy_stream import EnvoyGone
from chat_gateway.ext_proc.messages import headers_of
from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2
from chat_gateway.generators.openai_events import answer_events
from chat_gateway.generators.openai_request import request_body
from chat_gateway.generators.upstream_status import pause_seconds, require_events

ENDING_SECONDS = 0.1
"""How long a server that has said everything is given to end its answer, so that Envoy keeps the
connection to it."""

Headers = Sequence[tuple[str, str]]
CallHeaders = Callable[[], Headers]

_T = TypeVar("_T")


class Passage(Protocol):
    """The way to the server and back, for the one chat that a task works on."""

    async def forward(self, body: bytes, headers: Headers) -> None:
        """Send the request on, with these headers besides."""

    async def answered(self) -> pb2.HttpHeaders:
        """The head of the server's answer; raises `EnvoyGone`."""

    async def piece(self) -> bytes | None:
        """The next bytes of its body, or None after the last; raises `EnvoyGone`."""


CURRENT: ContextVar[Passage] = ContextVar("passage")
"""The passage of the chat that a task works on."""


class EnvoyUpstream:
    """A `Generator`: forwards a chat when asked for an answer, and reads what comes back.

    `headers` gives what goes along with a chat.
    """

    def __init__(self, headers: CallHeaders = tuple) -> None:
        self._headers = headers

    @property
    def models(self) -> tuple[str, ...]:
        """None by name: which there are, the server knows."""
        return ()

    def check(self, request: ChatRequest) -> None:
        """Whatever can be judged may be asked."""

    async def generate(
        self, request: ChatRequest, *, deadline: float
    ) -> AsyncIterator[GeneratorEvent]:
        """The server's answer.

        Raises:
            GatewayError: ServerRefused, TooBusy, GeneratorFailed or OutOfTime.
        """
        passage = CURRENT.get()
        await passage.forward(json.dumps(request_body(request)).encode(), self._headers())
        _check(await _in_time(passage.answered(), deadline))
        pieces = _pieces(passage, deadline)
        events = answer_events(pieces, request.sampling.num_choices)
        async with aclosing(pieces), aclosing(events):
            async for event in events:
                yield event
            with suppress(TimeoutError, GatewayError):
                async with asyncio.timeout(ENDING_SECONDS):
                    async for _ in pieces:
                        pass

    async def is_ready(self) -> bool:
        """Whether an answer can be expected: Envoy keeps the server's health."""
        return True

    async def close(self) -> None:
        """Nothing is held."""


async def _pieces(passage: Passage, deadline: float) -> AsyncGenerator[bytes, None]:
    while (piece := await _in_time(passage.piece(), deadline)) is not None:
        yield piece


async def _in_time(awaited: Awaitable[_T], deadline: float) -> _T:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await awaited
    except TimeoutError:
        raise OutOfTime("the model's server did not finish before the deadline") from None
    except EnvoyGone:
        raise GeneratorFailed("the connection ended before the answer did") from None


def _check(head: pb2.HttpHeaders) -> None:
    headers = headers_of(head)
    status = int(headers.get(":status", "0"))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise TooBusy("the model's server is busy", pause_seconds(headers))
    if status >= HTTPStatus.BAD_REQUEST:
        raise ServerRefused(f"the model's server answered with status {status}", status)
    if status != HTTPStatus.OK:
        raise GeneratorFailed("the model's server answered with neither an answer nor an error")
    require_events(headers)
