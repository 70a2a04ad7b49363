"""The one table from errors to HTTP answers, and what a client reads about an error."""

import math
import traceback
from http import HTTPStatus

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from chat_gateway.chat import (
    GatewayError,
    GeneratorFailed,
    GuardUnavailable,
    InvalidChat,
    OutOfTime,
    ServerRefused,
    TooBusy,
    UnknownModel,
)
from chat_gateway.http_api.problem import invalid_chat
from guard_service.moderation import (
    DeadlineExceeded,
    InvalidRequest,
    ModerationError,
    Overloaded,
)

UNEXPECTED = "the gateway failed unexpectedly; nothing was answered"
"""What a client reads about an error nobody foresaw: its own text may hold theirs."""

_log = structlog.get_logger(__name__)

_Row = tuple[HTTPStatus, str, str]

ROWS: dict[type[Exception], _Row] = {
    UnknownModel: (HTTPStatus.NOT_FOUND, "invalid_request_error", "model_not_found"),
    InvalidChat: (HTTPStatus.BAD_REQUEST, "invalid_request_error", "invalid_value"),
    TooBusy: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error", "too_busy"),
    GuardUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "guard_unavailable"),
    GeneratorFailed: (HTTPStatus.BAD_GATEWAY, "server_error", "generator_failed"),
    OutOfTime: (HTTPStatus.GATEWAY_TIMEOUT, "server_error", "out_of_time"),
}
"""Status, type and code of each error; the nearest ancestor counts."""

_UNKNOWN: _Row = (HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", "internal_error")

_HTTP_CODES: dict[int, str] = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "content_too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
}


class InnerError(BaseModel):
    """What Azure's clients look for when a prompt was filtered."""

    code: str


class Problem(BaseModel):
    """Why there is no answer, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None
    innererror: InnerError | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: Problem


class BlockedPrompt(GatewayError):
    """The prompt is refused and the policy wants an HTTP error for that, as Azure's API gives."""


def guard_error(error: ModerationError, *, param: str) -> GatewayError:
    """The gateway's word for an error of the guard; a refused text is named `param`."""
    if isinstance(error, InvalidRequest):
        return InvalidChat(param, str(error).partition(": ")[2])
    if isinstance(error, Overloaded):
        return TooBusy(str(error), error.retry_after_seconds)
    if isinstance(error, DeadlineExceeded):
        return OutOfTime(str(error))
    return GuardUnavailable("the guard reached no verdict")


def error_body(error: Exception) -> ErrorBody:
    """What the client reads; an error outside the table becomes a fixed sentence."""
    if isinstance(error, RequestValidationError):
        error = invalid_chat(error.errors())
    if isinstance(error, BlockedPrompt):
        inner = InnerError(code="ResponsibleAIPolicyViolation")
        return _body(str(error), "invalid_request_error", "prompt", "content_filter", inner)
    if isinstance(error, HTTPException):
        code = _HTTP_CODES.get(error.status_code, "invalid_request")
        return _body(error.detail, "invalid_request_error", None, code)
    _, kind, code = _row(error)
    message = str(error) if isinstance(error, GatewayError) else UNEXPECTED
    return _body(message, kind, error.param if isinstance(error, InvalidChat) else None, code)


def error_answer(error: Exception) -> Response:
    """The whole HTTP answer."""
    headers = {}
    if isinstance(error, TooBusy):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    return Response(
        error_body(error).model_dump_json(exclude_unset=True),
        status_code=_status(error),
        headers=headers,
        media_type="application/json",
    )


def log_fault(error: Exception) -> None:
    """Log an error nobody foresaw by type and place alone: its text may hold a caller's."""
    if not isinstance(error, GatewayError | HTTPException):
        frames = reversed(traceback.extract_tb(error.__traceback__))
        place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in frames)
        _log.error("unexpected error", kind=type(error).__name__, place=place)


def _status(error: Exception) -> int:
    if isinstance(error, RequestValidationError | BlockedPrompt):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, ServerRefused):
        return error.status
    return _row(error)[0]


def _row(error: Exception) -> _Row:
    return next((ROWS[kind] for kind in type(error).__mro__ if kind in ROWS), _UNKNOWN)


def _body(
    message: str, kind: str, param: str | None, code: str, inner: InnerError | None = None
) -> ErrorBody:
    facts = {"message": message, "type": kind, "param": param, "code": code}
    return ErrorBody(error=Problem.model_validate(facts | ({"innererror": inner} if inner else {})))
