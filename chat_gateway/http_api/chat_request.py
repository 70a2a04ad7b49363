"""From a request on the wire to the gateway's own words."""

from chat_gateway.chat import ChatMessage, ChatRequest, InvalidChat, Sampling, ToolCall
from chat_gateway.http_api.chat_schema import ChatCompletionRequest, ChosenTool, MessageItem
from chat_gateway.http_api.content import joined
from chat_gateway.http_api.limits import HttpLimits
from guard_service.moderation import Role

_ROLES = {"developer": Role.SYSTEM}


def chat_request(body: ChatCompletionRequest, limits: HttpLimits) -> ChatRequest:
    """The request without its wire format.

    Raises:
        InvalidChat: for what only shows when fields are seen together, or is over a limit.
    """
    if len(body.messages) > limits.max_messages:
        raise InvalidChat(
            "messages",
            f"{len(body.messages)} given; at most {limits.max_messages} (max_messages)",
        )
    return ChatRequest(
        messages=tuple(_message(item, i) for i, item in enumerate(body.messages)),
        model=body.model,
        sampling=_sampling(body, limits),
        tools=tuple(tool.model_dump(exclude_unset=True) for tool in body.tools or ()),
        tool_choice=_tool_choice(body),
    )


def _message(item: MessageItem, index: int) -> ChatMessage:
    place = f"messages[{index}]"
    role = _ROLES.get(item.role) or Role(item.role)
    if role is not Role.ASSISTANT and (item.tool_calls or item.refusal):
        field = "tool_calls" if item.tool_calls else "refusal"
        raise InvalidChat(f"{place}.{field}", "only an assistant's message has it")
    if (role is Role.TOOL) != (item.tool_call_id is not None):
        raise InvalidChat(f"{place}.tool_call_id", "a tool's message needs it, no other has it")
    content = _content(item)
    if not content.strip() and not item.tool_calls:
        raise InvalidChat(f"{place}.content", "must not be empty or blank")
    return ChatMessage(
        role=role,
        content=content,
        name=item.name,
        tool_calls=tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in item.tool_calls or ()
        ),
        tool_call_id=item.tool_call_id,
    )


def _content(item: MessageItem) -> str:
    """What the assistant said; a refusal that repeats the content is said once."""
    content, refusal = joined(item.content), item.refusal or ""
    said = (content,) if refusal == content else (content, refusal)
    return "\n".join(filter(None, said))


def _sampling(body: ChatCompletionRequest, limits: HttpLimits) -> Sampling:
    num_choices = body.n or 1
    if num_choices > limits.max_choices:
        raise InvalidChat("n", f"{num_choices} given; at most {limits.max_choices} (max_choices)")
    if None not in (body.max_tokens, body.max_completion_tokens):
        raise InvalidChat("max_tokens", "give it or max_completion_tokens, not both")
    if body.stream_options is not None and not body.stream:
        raise InvalidChat("stream_options", "only a stream has options")
    stop = body.stop or ()
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_tokens or body.max_completion_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=body.seed,
        num_choices=num_choices,
    )


def _tool_choice(body: ChatCompletionRequest) -> object:
    choice, names = body.tool_choice, [tool.function.name for tool in body.tools or ()]
    if len(names) != len(set(names)):
        raise InvalidChat("tools", "each function needs a name of its own")
    if isinstance(choice, ChosenTool):
        if choice.function.name not in names:
            raise InvalidChat("tool_choice", "names a function that is not among the tools")
        return choice.model_dump()
    if choice == "required" and not names:
        raise InvalidChat("tool_choice", "there are no tools to require")
    return choice
