"""Says what is wrong with a request without repeating anything of it but field names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from chat_gateway.chat import InvalidChat

SHAPE = re.compile(r"<.*>")
"""Names of alternatives inside a schema, which are no part of a field's path."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PROBLEMS = {
    "extra_forbidden": "is not supported here",
    "missing": "is needed",
    "json_invalid": "the body is not valid JSON",
}
_SPEAKING = (
    "type",  # "Input should be a valid string": pydantic's words, which name types only
    "parsing",
    "than",
    "than_equal",
    "too_long",
    "too_short",
    "literal_error",
    "pattern_mismatch",
    "enum",
    "int_from_float",
)
"""Ends of the kinds of error whose message never holds any of the input."""

Body = TypeVar("Body", bound=BaseModel)


def read_json(schema: type[Body], body: bytes) -> Body:
    """The body of a request, strictly as the schema has it.

    Raises:
        InvalidChat: names the first field that is wrong and what is allowed.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise invalid_chat(error.errors(include_url=False, include_input=False)) from None


def invalid_chat(errors: Sequence[Mapping[str, Any]]) -> InvalidChat:
    """The first of pydantic's errors in the words of the API."""
    first = errors[0]
    return InvalidChat(_path(first["loc"]), _problem(first))


def _problem(error: Mapping[str, Any]) -> str:
    kind = error["type"]
    if kind in _PROBLEMS:
        return _PROBLEMS[kind]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind.endswith(_SPEAKING):
        message: str = error["msg"]
        return message[0].lower() + message[1:]
    return "is not valid"


def _path(place: Sequence[str | int]) -> str:
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not SHAPE.fullmatch(part) and part not in ("body", "query"):
            path += f".{part}" if _NAME.fullmatch(part) else ".?"
    return path.removeprefix(".") or "body"
