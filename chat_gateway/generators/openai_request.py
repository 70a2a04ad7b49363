"""A chat request as an OpenAI-compatible server reads it."""

from typing import Any

from chat_gateway.chat import ChatMessage, ChatRequest, Sampling


def request_body(request: ChatRequest) -> dict[str, Any]:
    """The JSON body. Always a stream; what the caller left open is left to the server."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= _sampling(request.sampling)
    if request.tools:
        body["tools"] = [dict(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    return body


def _sampling(sampling: Sampling) -> dict[str, Any]:
    wanted = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "n": sampling.num_choices if sampling.num_choices > 1 else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _message(message: ChatMessage) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.name is not None:
        body["name"] = message.name
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["content"] = message.content or None
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return body
