"""The name of the request at hand: in every log line, reply and error of it."""

import re
import uuid

from structlog.contextvars import bind_contextvars, get_contextvars

from chat_gateway.chat import InvalidChat

_ALLOWED = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def name_request(given: str = "") -> str:
    """Call the current task's request as its caller does, or by a new id; returns the id.

    Raises:
        InvalidChat: The given id could be mistaken for something else in a log.
    """
    if given and not _ALLOWED.fullmatch(given):
        raise InvalidChat("request_id", "use at most 128 of the characters A-Z a-z 0-9 . _ : -")
    name = given or uuid.uuid4().hex
    bind_contextvars(request_id=name)
    return name


def request_id() -> str:
    """The id of the current task's request; `name_request` has run before."""
    return str(get_contextvars()["request_id"])
