"""From a prompt on the wire to the gateway's own words."""

import json
from collections.abc import Sequence
from typing import Any

from chat_gateway.chat import ChatMessage, ChatRequest, InvalidChat, Sampling, ToolCall
from chat_gateway.grpc_server.options import GrpcOptions
from chat_gateway.v1 import chat_pb2
from guard_service.moderation import Role
from guard_service.v1 import guard_pb2

_ROLES = {
    guard_pb2.ROLE_USER: Role.USER,
    guard_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    guard_pb2.ROLE_SYSTEM: Role.SYSTEM,
    guard_pb2.ROLE_TOOL: Role.TOOL,
}
_MODES: dict[int, str] = {
    chat_pb2.TOOL_MODE_AUTO: "auto",
    chat_pb2.TOOL_MODE_NONE: "none",
    chat_pb2.TOOL_MODE_REQUIRED: "required",
}


def chat_request(prompt: chat_pb2.Prompt, options: GrpcOptions, default_model: str) -> ChatRequest:
    """The prompt without its wire format.

    Raises:
        InvalidChat: names the field and what is allowed.
    """
    if not 1 <= len(prompt.messages) <= options.max_messages:
        raise InvalidChat(
            "prompt.messages",
            f"{len(prompt.messages)} given, 1 to {options.max_messages} allowed (max_messages)",
        )
    return ChatRequest(
        messages=tuple(_message(each, index) for index, each in enumerate(prompt.messages)),
        model=prompt.model or default_model,
        sampling=_sampling(prompt.sampling, options),
        tools=_tools(prompt.tools, options),
        tool_choice=_tool_choice(prompt),
    )


def _message(message: chat_pb2.Message, index: int) -> ChatMessage:
    place = f"prompt.messages[{index}]"
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidChat(f"{place}.role", "use one of ROLE_USER, _ASSISTANT, _SYSTEM, _TOOL")
    if message.tool_calls and role is not Role.ASSISTANT:
        raise InvalidChat(f"{place}.tool_calls", "only an assistant's message has them")
    if (role is Role.TOOL) != bool(message.tool_call_id):
        raise InvalidChat(f"{place}.tool_call_id", "a tool's message needs it, no other has it")
    if not message.content.strip() and not message.tool_calls:
        raise InvalidChat(f"{place}.content", "must not be empty or blank")
    return ChatMessage(
        role=role,
        content=message.content,
        name=message.name or None,
        tool_calls=tuple(
            ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls
        ),
        tool_call_id=message.tool_call_id or None,
    )


def _sampling(sampling: chat_pb2.Sampling, options: GrpcOptions) -> Sampling:
    num_choices = sampling.num_choices if sampling.HasField("num_choices") else 1
    _require("num_choices", num_choices, 1, options.max_choices)
    if sampling.HasField("temperature"):
        _require("temperature", sampling.temperature, 0, 2)
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        raise InvalidChat("prompt.sampling.top_p", "must be above 0 and up to 1")
    if sampling.HasField("max_tokens") and sampling.max_tokens < 1:
        raise InvalidChat("prompt.sampling.max_tokens", "must be 1 or more")
    if len(sampling.stop) > options.max_stops:
        raise InvalidChat("prompt.sampling.stop", f"at most {options.max_stops} (max_stops)")
    if not all(sampling.stop):
        raise InvalidChat("prompt.sampling.stop", "must not hold an empty text")
    return Sampling(
        temperature=sampling.temperature if sampling.HasField("temperature") else None,
        top_p=sampling.top_p if sampling.HasField("top_p") else None,
        max_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else None,
        stop=tuple(sampling.stop),
        seed=sampling.seed if sampling.HasField("seed") else None,
        num_choices=num_choices,
    )


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidChat(f"prompt.sampling.{name}", f"must be {low:g} to {high:g}")


def _tools(tools: Sequence[chat_pb2.Tool], options: GrpcOptions) -> tuple[dict[str, Any], ...]:
    if len(tools) > options.max_tools:
        raise InvalidChat(
            "prompt.tools", f"{len(tools)} given, at most {options.max_tools} allowed (max_tools)"
        )
    names = [tool.name for tool in tools]
    if not all(names) or len(set(names)) != len(names):
        raise InvalidChat("prompt.tools", "each function needs a name of its own")
    return tuple(
        {"type": "function", "function": _function(tool, index)} for index, tool in enumerate(tools)
    )


def _function(tool: chat_pb2.Tool, index: int) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json:
        function["parameters"] = _json_object(
            tool.parameters_json, f"prompt.tools[{index}].parameters_json"
        )
    return function


def _json_object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # an escape can name half a character
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidChat(place, "must be a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _tool_choice(prompt: chat_pb2.Prompt) -> object:
    choice = prompt.tool_choice
    match choice.WhichOneof("choice"):
        case None:
            return None
        case "name":
            if choice.name not in {tool.name for tool in prompt.tools}:
                raise InvalidChat("prompt.tool_choice.name", "is not among the tools")
            return {"type": "function", "function": {"name": choice.name}}
        case _:
            if choice.mode not in _MODES:
                raise InvalidChat("prompt.tool_choice.mode", "use one of the modes by name")
            if choice.mode == chat_pb2.TOOL_MODE_REQUIRED and not prompt.tools:
                raise InvalidChat("prompt.tool_choice.mode", "there are no tools to require")
            return _MODES[choice.mode]
