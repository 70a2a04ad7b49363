"""Surrounds every HTTP exchange: names the request and turns whatever went wrong into an answer."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from chat_gateway.chat import InvalidChat
from chat_gateway.http_api.errors import error_answer, log_fault

REQUEST_ID = "x-request-id"
_ALLOWED = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class ExchangeMiddleware:
    """The outermost layer, so that no error's text reaches a client or the server's log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the exchange, and answer it if nobody else did."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ALLOWED.fullmatch(given) else uuid.uuid4().hex
        bind_contextvars(request_id=request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(message, request_id)
            await send(message)

        try:
            _require_acceptable(given)
            await self._app(scope, receive, send_named)
        except Exception as error:  # noqa: BLE001 - the boundary: unforeseen errors stay unread
            log_fault(error)
            if not started:
                await error_answer(error)(scope, receive, send_named)


def _require_acceptable(given: str) -> None:
    if given and not _ALLOWED.fullmatch(given):
        raise InvalidChat(REQUEST_ID, "use at most 128 of the characters A-Z a-z 0-9 . _ : -")


def _add_headers(message: Message, request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers[REQUEST_ID] = request_id
    headers["x-content-type-options"] = "nosniff"
    headers.setdefault("cache-control", "no-store")
