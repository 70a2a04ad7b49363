"""One chat between Envoy and the gateway's HTTP API.

What Envoy brings becomes a request to the API, what the API answers becomes orders to Envoy, and
the server behind Envoy is the API's generator.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from chat_gateway.ext_proc.envoy_stream import EnvoyGone, EnvoyStream
from chat_gateway.ext_proc.messages import (
    answer_head,
    answer_piece,
    forward,
    go_on,
    headers_of,
    whole_answer,
)
from chat_gateway.ext_proc.upstream import CURRENT
from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2
from chat_gateway.http_api.guard_detail import DETAIL_HEADER
from chat_gateway.http_api.policy_choice import POLICY_HEADER

CHAT_PATH = "/v1/chat/completions"

STATUS = ":status"
"""All that stays of the head of a server's answer, to be overwritten: nobody judges the rest."""

DETAILS = "chat_gateway"
"""How Envoy's access log names an answer that the gateway gave."""

LAST = b"\n"
"""Ends a stream of events. Envoy takes its end only together with some bytes, and to a reader of
events an empty line between two of them means nothing."""


class Unfinished(Exception):
    """The API did not answer to the end."""


class HttpExchange:
    """Runs the API's application over one stream of Envoy's. It is the `Passage` of its chat.

    Until the server has answered, what the API answers is kept: if it is whole by then, the server
    is not waited for. Otherwise it follows the server's head, piece by piece.
    """

    def __init__(self, envoy: EnvoyStream, head: pb2.HttpHeaders) -> None:
        self.status = 0
        self._envoy = envoy
        self._request = head
        self._server_headers: Mapping[str, str] | None = None
        self._over = False  # the server has nothing more to say
        self._start: Message | None = None
        self._kept: list[bytes] = []
        self._begun = False
        self._done = False
        self._sending = asyncio.Lock()

    async def run(self, app: ASGIApp) -> None:
        """Answer the chat.

        Raises:
            EnvoyGone: before a whole answer was given.
            Unfinished: none was given, though Envoy waits for it.
        """
        CURRENT.set(self)
        await app(self._scope(), self._receiver(), self._send)
        if not self._done:
            raise EnvoyGone if self._envoy.ended.is_set() else Unfinished

    async def forward(self, body: bytes, headers: Sequence[tuple[str, str]]) -> None:
        """Send the judged request on, with these headers besides."""
        await self._envoy.order(forward(body, dict(headers), (POLICY_HEADER, DETAIL_HEADER)))

    async def answered(self) -> pb2.HttpHeaders:
        """The head of the server's answer; raises `EnvoyGone`."""
        while True:
            step = await self._envoy.step()
            if step.WhichOneof("request") == "response_headers":
                break
        self._over = step.response_headers.end_of_stream
        self._server_headers = headers_of(step.response_headers)
        async with self._sending:
            await self._flush()
        return step.response_headers

    async def piece(self) -> bytes | None:
        """The next bytes of the server's body, or None after the last; raises `EnvoyGone`.

        Trailers are an end like any other: what they say is not passed on.
        """
        if self._over:
            return None
        step = await self._envoy.step()
        if step.WhichOneof("request") != "response_body":
            self._over = True
            return None
        self._over = step.response_body.end_of_stream
        return step.response_body.body

    def _scope(self) -> Scope:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": CHAT_PATH,
            "raw_path": CHAT_PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (header.key.lower().encode(), header.raw_value)
                for header in self._request.headers.headers
                if not header.key.startswith(":")
            ],
            "client": None,
            "server": None,
        }

    def _receiver(self) -> Any:
        unread = True

        async def receive() -> Message:
            nonlocal unread
            if unread:
                unread = False
                try:
                    return {"type": "http.request", "body": await self._body(), "more_body": False}
                except EnvoyGone:
                    return {"type": "http.disconnect"}
            await self._envoy.ended.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _body(self) -> bytes:
        """The body, which Envoy collects as soon as it is asked to."""
        if self._request.end_of_stream:
            return b""
        await self._envoy.order(go_on())
        while True:
            step = await self._envoy.step()
            if step.WhichOneof("request") == "request_body":
                return step.request_body.body

    async def _send(self, message: Message) -> None:
        async with self._sending:
            if message["type"] == "http.response.start":
                self._start, self.status = message, message["status"]
                return
            self._kept.append(message.get("body", b""))
            self._done = not message.get("more_body", False)
            await self._flush()

    async def _flush(self) -> None:
        """Send what may be sent now."""
        if self._start is None or not (self._kept or self._done):
            return
        if self._done and not self._begun:
            await self._envoy.order(
                whole_answer(self.status, self._headers(), b"".join(self._kept), details=DETAILS)
            )
            return
        if self._server_headers is None:
            return
        if not self._begun:
            self._begun = True
            removed = self._server_headers.keys() - {STATUS}
            await self._envoy.order(answer_head(self.status, self._headers(), sorted(removed)))
        piece = b"".join(self._kept) or (LAST if self._done else b"")
        self._kept.clear()
        if piece:
            await self._envoy.order(answer_piece(piece, last=self._done))

    def _headers(self) -> dict[str, str]:
        pairs = self._start["headers"] if self._start else []
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
