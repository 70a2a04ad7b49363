"""What a model server's HTTP status means, in our own words."""

import re
from collections.abc import Mapping
from http import HTTPStatus

import httpx

from chat_gateway.chat import GatewayError, GeneratorFailed, InvalidChat, TooBusy

_INVALID = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,  # TGI's "validation"
}
_WRONG_KEY = "the model's server does not accept the gateway's key"
_FAULTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: _WRONG_KEY,
    HTTPStatus.FORBIDDEN: _WRONG_KEY,
    HTTPStatus.NOT_FOUND: "the model's server has no such model, or no such path",
}
_DEFAULT_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0

REFUSED_AS_INVALID = (
    "the model's server does not accept them; they may be too long, "
    "or ask for something this model cannot do"
)


class Unreached(GeneratorFailed):
    """No connection could be made, so no work was begun."""


class Unavailable(TooBusy):
    """The server turned the request away at its door (status 503)."""


def is_worth_a_retry(failure: GatewayError) -> bool:
    """Whether the same request may succeed at once, and cannot be answered twice."""
    return isinstance(failure, Unreached | Unavailable)


def check_response(response: httpx.Response) -> None:
    """Let only a stream of events pass.

    Raises:
        GatewayError: InvalidChat, TooBusy or GeneratorFailed.
    """
    if response.status_code != HTTPStatus.OK:
        raise _refusal(response)
    require_events(response.headers)


def require_events(headers: Mapping[str, str]) -> None:
    """Let only a body pass that can be read as events; header names in lower case.

    Raises:
        GeneratorFailed: it is compressed, or something else.
    """
    if headers.get("content-encoding", "identity") != "identity":
        raise GeneratorFailed("the model's server compresses its answers, which it was not asked")
    kind, _, _ = headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "text/event-stream":
        raise GeneratorFailed("the model's server does not stream its answers as events")


def _refusal(response: httpx.Response) -> GatewayError:
    status = response.status_code
    if status in _INVALID:
        return InvalidChat("messages", REFUSED_AS_INVALID)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TooBusy("the model's server is busy", pause_seconds(response.headers))
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        pause = pause_seconds(response.headers)
        return Unavailable("the model's server is not available", pause)
    if response.is_redirect:
        return GeneratorFailed("the model's server redirects, which is not followed")
    return GeneratorFailed(_FAULTS.get(status, f"the model's server failed with status {status}"))


def pause_seconds(headers: Mapping[str, str]) -> float:
    """The Retry-After header, if it is a sensible number; header names in lower case."""
    asked = headers.get("retry-after", "")
    if not re.fullmatch(r"\d{1,4}", asked, re.ASCII):
        return _DEFAULT_PAUSE_SECONDS
    return min(max(float(asked), _DEFAULT_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
