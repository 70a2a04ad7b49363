"""Surrounds every RPC of the gateway with a `Call`, from its raw bytes on."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from chat_gateway.chat import InvalidChat
from chat_gateway.grpc_server.call import Call, Context
from chat_gateway.grpc_server.door import Door
from chat_gateway.metrics import Metrics
from guard_service.unread import write_or_give_up

OWN = "/chat_gateway."
"""Paths of the gateway's own RPCs, which all take one request."""

Handler: TypeAlias = Any
"""The stubs describe handlers of the synchronous API only."""

Behaviour = Callable[[Any, Context], Any]
Decode = Callable[[bytes], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the gateway's handlers.

    Requests are decoded here rather than by gRPC, which would answer undecodable ones with
    `UNKNOWN` and the decoder's words before any handler runs. A client that leaves a reply unread
    for `max_unread_seconds` is given up; gRPC would wait for it for ever.
    """

    def __init__(self, metrics: Metrics, door: Door, *, max_unread_seconds: float) -> None:
        self._metrics = metrics
        self._door = door
        self._max_unread_seconds = max_unread_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler found for this RPC, if it is one of the gateway's."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None:
            self._metrics.rpc_finished(path, grpc.StatusCode.UNIMPLEMENTED)
            return None
        if not path.startswith(OWN):
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._each_reply(path, handler), response_serializer=handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._reply(path, handler), response_serializer=handler.response_serializer
        )

    def _reply(self, path: str, handler: Handler) -> Behaviour:
        behaviour, decode = handler.unary_unary, handler.request_deserializer

        async def reply(request: bytes, context: Context) -> Any:
            await self._door.enter(context)
            async with Call(path, context, self._metrics):
                return await behaviour(_decoded(request, decode), context)

        return reply

    def _each_reply(self, path: str, handler: Handler) -> Behaviour:
        behaviour, decode = handler.unary_stream, handler.request_deserializer

        async def each_reply(request: bytes, context: Context) -> None:
            await self._door.enter(context)
            async with (
                Call(path, context, self._metrics),
                aclosing(behaviour(_decoded(request, decode), context)) as replies,
            ):
                async for each in replies:
                    await write_or_give_up(context, each, seconds=self._max_unread_seconds)

        return each_reply


def _decoded(raw: bytes, decode: Decode) -> Any:
    try:
        return decode(raw)
    except DecodeError:
        raise InvalidChat(
            "request", "not a message of this method, or text in it is not valid UTF-8"
        ) from None
