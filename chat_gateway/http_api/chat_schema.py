"""What `POST /v1/chat/completions` accepts. Whatever stands nowhere here is refused."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from chat_gateway.http_api.content import Strict, Text, shape_of

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Off = Annotated[float, Field(ge=0, le=0)]


def _sendable(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(schema, allow_nan=False)
    except ValueError:
        raise ValueError("must hold no NaN or Infinity") from None
    return schema


class FunctionCall(Strict):
    """A function the assistant called, its arguments as JSON text."""

    name: Name
    arguments: str


class ToolCallItem(Strict):
    """One call of an assistant's turn."""

    id: Annotated[str, Field(min_length=1)]
    type: Literal["function"] = "function"
    function: FunctionCall


class MessageItem(Strict):
    """One turn. Fields that only answers have may be given back as null."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | None = None
    name: Name | None = None
    tool_calls: list[ToolCallItem] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class FunctionItem(Strict):
    """A function the model may call; `parameters` is a JSON schema and goes on as it is."""

    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_sendable)] | None = None
    strict: bool | None = None


class ToolItem(Strict):
    """A tool; functions are the only kind there is."""

    type: Literal["function"]
    function: FunctionItem


class ChosenFunction(Strict):
    """The name of a function."""

    name: Name


class ChosenTool(Strict):
    """The one tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class StreamOptions(Strict):
    """Extras of a stream."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class PhaseModeration(Strict):
    """`score` adds the verdict to the answer; `block` also asks for what is unsafe to be cut."""

    mode: Literal["score", "block"]


class ModerationPhases(Strict):
    """What to do in each direction."""

    input: PhaseModeration | None = None
    output: PhaseModeration | None = None


class ModerationItem(Strict):
    """Asks for verdicts with the answer; it can add to the policy in force, never weaken it."""

    model: str
    policy: ModerationPhases | None = None


class TextFormat(Strict):
    """The one format there is."""

    type: Literal["text"]


Stop = Annotated[
    Annotated[str, Tag("<one>")] | Annotated[list[str], Field(max_length=4), Tag("<list>")],
    Discriminator(shape_of({list: "<list>"}, "<one>")),
]
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[ChosenTool, Tag("<tool>")],
    Discriminator(shape_of({dict: "<tool>"}, "<word>")),
]


class ChatCompletionRequest(Strict):
    """A conversation to be answered. Null means that a field was not given."""

    model: str
    messages: Annotated[list[MessageItem], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    tools: Annotated[list[ToolItem], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    moderation: ModerationItem | None = None

    # Accepted and without effect: they describe the caller or the vendor's service.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None

    # Accepted at the value that changes nothing, since many clients always send them.
    frequency_penalty: Off | None = None
    presence_penalty: Off | None = None
    logprobs: Literal[False] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    parallel_tool_calls: Literal[True] | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
