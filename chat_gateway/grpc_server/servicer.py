"""The RPCs of `ChatService`: from the wire to the pipeline and back."""
# ruff: noqa: N802 - the methods bear the names of the contract

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from chat_gateway.chat import (
    Blocked,
    ChatEvent,
    ChatRequest,
    ChoiceFinished,
    FinishReason,
    InvalidChat,
)
from chat_gateway.generators.protocol import Generator
from chat_gateway.grpc_server.call import Context, seconds_left
from chat_gateway.grpc_server.events import event_to_wire
from chat_gateway.grpc_server.options import GrpcOptions
from chat_gateway.grpc_server.request import chat_request
from chat_gateway.grpc_server.request_id import name_request
from chat_gateway.grpc_server.status import REQUEST_ID
from chat_gateway.grpc_server.whole import WholeChat
from chat_gateway.pipeline import Pipeline
from chat_gateway.places import Places
from chat_gateway.policy import GatewayPolicy
from chat_gateway.v1 import chat_pb2, chat_pb2_grpc


@dataclass(frozen=True, slots=True)
class _Chat:
    request: ChatRequest
    policy: GatewayPolicy
    opened: chat_pb2.ChatOpened


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Answers RPCs; errors leave it as `GatewayError`s and get their status further out.

    `policies` are those a request may name.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        generator: Generator,
        policies: Mapping[str, GatewayPolicy],
        default_policy: GatewayPolicy,
        options: GrpcOptions,
        *,
        places: Places,
    ) -> None:
        self._pipeline = pipeline
        self._generator = generator
        self._policies = policies
        self._default_policy = default_policy
        self._options = options
        self._places = places

    async def Chat(self, request: chat_pb2.ChatRequest, context: Context) -> chat_pb2.ChatResponse:
        """Answer at once."""
        with self._places.one():
            chat = await self._open(request.prompt, request.request_id, context)
            whole = WholeChat(chat.opened, chat.request.sampling.num_choices)
            async with aclosing(self._events(chat, context)) as events:
                async for event in events:
                    whole.add(event)
            return whole.response()

    async def ChatStream(
        self, request: chat_pb2.ChatStreamRequest, context: Context
    ) -> AsyncIterator[chat_pb2.ChatStreamResponse]:
        """Answer while the model writes."""
        with self._places.one():
            chat = await self._open(request.prompt, request.request_id, context)
            yield chat_pb2.ChatStreamResponse(opened=chat.opened)
            num_choices = chat.request.sampling.num_choices
            async with aclosing(self._events(chat, context)) as events:
                async for event in events:
                    yield event_to_wire(event)
                    for end in _ends_of_blocked(event, num_choices):
                        yield event_to_wire(end)

    async def _open(self, prompt: chat_pb2.Prompt, given_id: str, context: Context) -> _Chat:
        request_id = name_request(given_id)
        await context.send_initial_metadata(((REQUEST_ID, request_id),))
        policy = self._policy(prompt.policy_id)
        request = chat_request(prompt, self._options, self._generator.models[0])
        opened = chat_pb2.ChatOpened(
            request_id=request_id, model=request.model, policy_id=policy.id
        )
        return _Chat(request, policy, opened)

    def _policy(self, policy_id: str) -> GatewayPolicy:
        if not policy_id:
            return self._default_policy
        if policy_id not in self._policies:
            raise InvalidChat("prompt.policy_id", "no policy of that name may be chosen here")
        return self._policies[policy_id]

    def _events(self, chat: _Chat, context: Context) -> AsyncGenerator[ChatEvent, None]:
        longest = self._options.max_chat_seconds
        deadline = time.monotonic() + _least(seconds_left(context), longest)
        return self._pipeline.chat(
            chat.request, chat.policy, request_id=chat.opened.request_id, deadline=deadline
        )


def _ends_of_blocked(event: ChatEvent, num_choices: int) -> Iterator[ChoiceFinished]:
    """A block implies the end of its choices; on the wire each choice has its own end."""
    if isinstance(event, Blocked):
        choices = range(num_choices) if event.choice is None else (event.choice,)
        for choice in choices:
            yield ChoiceFinished(choice, FinishReason.CONTENT_FILTER)


def _least(remaining: float | None, longest: float) -> float:
    return longest if remaining is None else min(remaining, longest)
