"""The door HTTP requests come through: it counts them, and closes when the gateway drains."""

import asyncio
import json
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_gateway.http_api.platform_paths import HEALTH_PATH
from chat_gateway.metrics import OTHER, PATHS, Metrics

_log = structlog.get_logger(__name__)

_REFUSAL = {
    "error": {
        "message": "the gateway is draining",
        "type": "server_error",
        "param": None,
        "code": "draining",
    }
}


class HttpDoor:
    """Surrounds an application. While leaving it is not ready; closed, it lets no POST in."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._leaving = False
        self._closed = False
        self._num_inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def leave(self) -> None:
        """Say from now on that new requests are not welcome, but answer them."""
        self._leaving = True

    def close(self) -> None:
        """Refuse new requests; those inside stay."""
        self._closed = True

    @property
    def num_inside(self) -> int:
        """Requests being answered."""
        return self._num_inside

    async def emptied(self) -> None:
        """Wait until no request is being answered."""
        await self._empty.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.http_answered(scope["path"], status)
            await send(message)

        began = time.monotonic()

        self._num_inside += 1
        self._empty.clear()
        try:
            await (_refuse if self._refuses(scope) else self._app)(scope, receive, counted)
        finally:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._empty.set()
            _log_answer(scope, status, time.monotonic() - began)

    def _refuses(self, scope: Scope) -> bool:
        if scope["path"] == HEALTH_PATH:
            return self._leaving
        return self._closed and scope["method"] == "POST"


def _log_answer(scope: Scope, status: int, seconds: float) -> None:
    """A path is the caller's text unless it is one of ours."""
    path = scope["path"] if scope["path"] in PATHS else OTHER
    say = _log.info if scope["method"] == "POST" else _log.debug
    say("http", path=path, status=status, seconds=round(seconds, 6))


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive
    headers = [
        (b"content-type", b"application/json"),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(_REFUSAL).encode()})
