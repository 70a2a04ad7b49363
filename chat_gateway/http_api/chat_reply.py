"""The shapes of an answer: OpenAI's chat completion and its chunks."""

from typing import Literal

from pydantic import BaseModel

from chat_gateway.chat import FinishReason
from chat_gateway.http_api.guard_detail import GuardDetail, HeldDetail
from chat_gateway.http_api.moderation_report import Moderation


class CalledFunction(BaseModel):
    """A function and its arguments as JSON text; in a chunk, the next piece of them."""

    name: str | None = None
    arguments: str


class AnsweredToolCall(BaseModel):
    """A function the model wants called."""

    index: int | None = None
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunction


class AnswerMessage(BaseModel):
    """What the model said. `refusal` is there when the gateway or the model refused."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    tool_calls: list[AnsweredToolCall] | None = None


class Choice(BaseModel):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: FinishReason


class Usage(BaseModel):
    """Tokens the generator counted, over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """A whole answer. `moderation` is there when asked for, or when something passed unjudged."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    moderation: Moderation | None = None


class Delta(BaseModel):
    """The next piece of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[AnsweredToolCall] | None = None


class ChunkChoice(BaseModel):
    """The next piece of one choice; the last one has a finish reason."""

    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: FinishReason | None


class ChatCompletionChunk(BaseModel):
    """A piece of a streamed answer; one about the whole answer has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    moderation: Moderation | None = None
    guard: GuardDetail | None = None
    held: HeldDetail | None = None
