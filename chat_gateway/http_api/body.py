"""Reads the body of a request: JSON by its own word, within a size and a time."""

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from chat_gateway.http_api.limits import HttpLimits


class ClientGone(Exception):
    """The client left, or reads no more of its answer."""


async def read_body(scope: Scope, receive: Receive, limits: HttpLimits) -> bytes:
    """The whole body; refused while it arrives, so that no more than the limit is ever held.

    Raises:
        HTTPException: It is of another type, too large or too slow.
        ClientGone: The client left before it was complete.
    """
    headers = Headers(scope=scope)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise _refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json"
        )
    if headers.get("content-encoding", "identity") != "identity":
        raise _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a compressed body is not accepted")
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limits.max_body_bytes:
        raise _too_large(limits.max_body_bytes)
    try:
        async with asyncio.timeout(limits.max_body_seconds):
            return await _bounded(receive, limits.max_body_bytes)
    except TimeoutError:
        raise _refusal(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body took longer than {limits.max_body_seconds:g} s (max_body_seconds)",
        ) from None


async def _bounded(receive: Receive, max_bytes: int) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> HTTPException:
    return _refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {max_bytes} bytes (max_body_bytes)",
    )


def _refusal(status: HTTPStatus, message: str) -> HTTPException:
    # Without closing, the server would go on to read whatever more the client sends.
    return HTTPException(status, message, headers={"connection": "close"})
