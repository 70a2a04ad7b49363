"""The words of the gateway: what a client asks, what a generator says, and what can go wrong.

Errors a request can end in, each mapped to a status in `http_api.errors` and `grpc_server.status`:

    GatewayError
    ├── InvalidChat           the caller's fault: names the parameter and what is allowed
    │   └── UnknownModel      there is no such model here
    ├── TooBusy               too many requests at once; try again after a pause
    ├── GuardUnavailable      no verdict could be had, so nothing may pass (fail closed)
    ├── GeneratorFailed       the model or its server failed, refused or answered nonsense
    │   └── ServerRefused     its server answered with an error that concerns the caller
    └── OutOfTime             the request's deadline passed

A blocked prompt or answer is not an error: it is a `Blocked` event with a verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from guard_service.moderation import Phase, Role, Verdict


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model wants called; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. An assistant's turn may be tool calls alone, with empty content."""

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw an answer; None leaves it to the generator's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    num_choices: int = 1


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be answered. `tools` and `tool_choice` are passed on as they came."""

    messages: tuple[ChatMessage, ...]
    model: str
    sampling: Sampling = Sampling()
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None


class Channel(StrEnum):
    """Which part of an answer a piece of text belongs to; a client sees them all."""

    CONTENT = "content"
    REASONING = "reasoning"
    REFUSAL = "refusal"


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of text of one choice."""

    choice: int
    text: str
    channel: Channel = Channel.CONTENT


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a tool call; `id` and `name` come with its first piece.

    `index` counts the calls of a choice from 0, without gaps. The guard does not read the `id`, so
    it is none of the model's words or its server's.
    """

    choice: int
    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ChoiceFinished:
    """One choice is complete."""

    choice: int
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens the generator counted, over all choices."""

    prompt_tokens: int
    completion_tokens: int


GeneratorEvent = TextDelta | ToolCallDelta | ChoiceFinished | TokenUsage


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict was reached: on the prompt (choice None), or on an answer so far.

    `num_characters` is how much of the judged text it covers, in code points.
    """

    phase: Phase
    verdict: Verdict
    choice: int | None
    num_characters: int
    final: bool


@dataclass(frozen=True, slots=True)
class Unjudged:
    """No verdict could be had and the policy lets this phase pass all the same (fail open)."""

    phase: Phase
    choice: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing more of this choice will come; None blocks all of them, before any text.

    `verdict` is the one that decided: unsafe, or in the grey band when its bound was reached; None
    where an answer got no verdict (fail closed). A prompt without one ends in an error.
    """

    phase: Phase
    choice: int | None
    refusal: str
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Held:
    """How much of one choice is held back now, and what holding back has cost; told on request.

    The delays are those of its first text and of its end, in seconds, once they were released.
    """

    choice: int
    num_characters: int
    first_delay_seconds: float | None = None
    end_delay_seconds: float | None = None


ChatEvent = GeneratorEvent | Judged | Unjudged | Blocked | Held
"""What a client may be told. Text and tool calls come only after they were judged."""


class GatewayError(Exception):
    """No answer. Its message is written for the caller and never holds any of their text."""


class InvalidChat(GatewayError):
    """The caller's fault: `param` names the field, the message says what is allowed."""

    def __init__(self, param: str, problem: str) -> None:
        super().__init__(f"{param}: {problem}")
        self.param = param
        self.problem = problem


class UnknownModel(InvalidChat):
    """There is no such model here."""


class TooBusy(GatewayError):
    """Too many requests; the same one may succeed after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class GuardUnavailable(GatewayError):
    """No verdict could be had, so nothing may pass."""


class GeneratorFailed(GatewayError):
    """The model, or the server it runs on, failed; not the caller's fault."""


class ServerRefused(GeneratorFailed):
    """The model's server answered the caller's own request with this HTTP status, 400 to 599."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OutOfTime(GatewayError):
    """The request's deadline passed before the answer was complete."""
