"""The caller's texts a generator is given beside the messages, in the words the guard reads."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from chat_gateway.chat import ChatRequest

_TOLD_APART = ("name", "description")


def fields_text(request: ChatRequest) -> str:
    """Names, ids, tools and stop texts, each once and on lines of its own; empty without any."""
    lines = dict.fromkeys(_lines(request))
    return "\n".join(f"{label}: {text}" for label, text in lines if text.strip())


def _lines(request: ChatRequest) -> Iterator[tuple[str, str]]:
    for tool in request.tools:
        yield from _tool_lines(tool)
    if isinstance(request.tool_choice, Mapping):
        yield "Tool to call", request.tool_choice["function"]["name"]
    for message in request.messages:
        yield "Speaker", message.name or ""
        yield "Tool call", message.tool_call_id or ""
        for call in message.tool_calls:
            yield "Tool call", call.id
    for stop in request.sampling.stop:
        yield "Stop", stop


def _tool_lines(tool: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Its name and description as they are, and whatever else it holds as JSON."""
    function = tool["function"]
    yield "Tool", function["name"]
    yield "Description", function.get("description") or ""
    rest = {name: value for name, value in function.items() if name not in _TOLD_APART}
    yield "Definition", _json(rest) if rest else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
