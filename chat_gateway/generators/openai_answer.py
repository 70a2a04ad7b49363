"""The chunks of an OpenAI-compatible server, read into events; what is not known never passes."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chat_gateway.chat import (
    Channel,
    ChoiceFinished,
    FinishReason,
    GeneratorEvent,
    GeneratorFailed,
    InvalidChat,
    TextDelta,
    TokenUsage,
    TooBusy,
    ToolCallDelta,
)
from chat_gateway.generators.upstream_status import REFUSED_AS_INVALID

# The last two are what older versions of TGI say for "stop".
_FINISHES = {reason.value: reason for reason in FinishReason} | {
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
}
# Some servers send the same thoughts under both names, so only the first present is read.
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_BUSY_PAUSE_SECONDS = 1.0
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool call that has begun, numbered from 0 within its choice."""

    number: int
    name: str


class AnswerReader:
    """Follows one answer of `num_choices` choices."""

    def __init__(self, num_choices: int) -> None:
        self._num_choices = num_choices
        self._finished: set[int] = set()
        self._calls: list[dict[int, _Call]] = [{} for _ in range(num_choices)]
        self._usage: TokenUsage | None = None

    def read(self, data: str) -> Iterator[GeneratorEvent]:
        """What the data of one event says.

        Raises:
            GeneratorFailed: it is not what an OpenAI-compatible server says.
            TooBusy, InvalidChat: the server says so.
        """
        chunk = _object(data)
        if chunk.get("error"):
            raise _reported(chunk)
        if (counts := chunk.get("usage")) is not None:
            self._usage = _usage(counts)
        for choice in _list(chunk.get("choices")):
            yield from self._choice(_dict(choice))

    def end(self) -> Iterator[GeneratorEvent]:
        """What is known only when the stream is over.

        Raises:
            GeneratorFailed: a choice was left unfinished.
        """
        if len(self._finished) < self._num_choices:
            raise GeneratorFailed("the model's server ended the answer before it was complete")
        if self._usage is not None:
            yield self._usage

    def _choice(self, choice: dict[str, Any]) -> Iterator[GeneratorEvent]:
        index = _index(choice.get("index"))
        if index >= self._num_choices:
            raise _nonsense()
        for event in self._delta(index, _dict(choice.get("delta") or {})):
            if index in self._finished:
                raise GeneratorFailed("the model's server wrote on after the end of an answer")
            yield event
        reason = choice.get("finish_reason")
        if reason and index not in self._finished:
            self._finished.add(index)
            yield ChoiceFinished(index, _finish(reason))

    def _delta(self, choice: int, delta: dict[str, Any]) -> Iterator[GeneratorEvent]:
        reasoning = next(filter(None, map(delta.get, _REASONING_FIELDS)), None)
        spoken = {
            Channel.REASONING: reasoning,
            Channel.CONTENT: delta.get("content"),
            Channel.REFUSAL: delta.get("refusal"),
        }
        for channel, value in spoken.items():
            if text := _text(value):
                yield TextDelta(choice, text, channel)
        calls = delta.get("tool_calls")
        # TGI sends a single call bare.
        for call in [calls] if isinstance(calls, dict) else _list(calls):
            yield from self._tool_call(choice, _dict(call))

    def _tool_call(self, choice: int, call: dict[str, Any]) -> Iterator[ToolCallDelta]:
        calls, index = self._calls[choice], _index(call.get("index", 0))
        function = _dict(call.get("function") or {})
        name = _text(function.get("name"))
        arguments = _text(function.get("arguments"))
        begun = calls.get(index)
        if begun is None:
            if not name:
                raise _nonsense()
            calls[index] = begun = _Call(len(calls), name)
            yield ToolCallDelta(choice, begun.number, arguments, _new_call_id(), name)
        elif name not in ("", begun.name):
            raise _nonsense()
        elif arguments:
            yield ToolCallDelta(choice, begun.number, arguments)


def _reported(report: dict[str, Any]) -> Exception:
    """An error the server reports, in our own words; TGI names its kind beside the message."""
    match report.get("error_type"):
        case "overloaded":
            return TooBusy("the model's server is busy", _BUSY_PAUSE_SECONDS)
        case "validation":
            return InvalidChat("messages", REFUSED_AS_INVALID)
        case _:
            return GeneratorFailed("the model's server reported an error")


def _nonsense() -> GeneratorFailed:
    return GeneratorFailed("the model's server sent an answer that makes no sense")


def _object(data: str) -> dict[str, Any]:
    try:
        return _dict(json.loads(data))
    except (ValueError, RecursionError):
        raise GeneratorFailed("the model's server sent something that is no JSON") from None


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _nonsense()
    return value


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _nonsense()
    return value


def _index(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise _nonsense()
    return value


def _text(value: Any) -> str:
    """A string of whole characters; JSON can also escape halves of them."""
    if value is None:
        return ""
    if not isinstance(value, str) or _HALF_CHARACTER.search(value):
        raise _nonsense()
    return value


def _new_call_id() -> str:
    """An id of our own: nobody judges the server's, and some of TGI's number every call 0.

    As long as the strictest servers want it when a client gives it back.
    """
    return secrets.token_hex(5)[:9]


def _finish(reason: Any) -> FinishReason:
    if not isinstance(reason, str) or reason not in _FINISHES:
        raise _nonsense()
    return _FINISHES[reason]


def _usage(counts: Any) -> TokenUsage:
    numbers = _dict(counts)
    prompt, completion = (
        _index(numbers.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")
    )
    if max(prompt, completion) > _MOST_TOKENS:
        raise _nonsense()
    return TokenUsage(prompt, completion)
