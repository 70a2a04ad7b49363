"""Surrounds every RPC of the server with a `Call`, from its raw bytes on."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from guard_service.grpc_server.call import Call, Context
from guard_service.grpc_server.door import Door
from guard_service.metrics import Metrics
from guard_service.moderation import InvalidRequest
from guard_service.unread import write_or_give_up

GUARDED = "/guard_service."
"""Paths that pass the door; health and reflection are answered even while it is closed."""

JUDGING = "/guard_service.v1.GuardService/Moderate"
"""How the paths of the calls that judge begin; `GetInfo` is asked as often as health is."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Found: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Decode = Callable[[bytes], Any] | None

_BUILDERS: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of every RPC.

    Requests are decoded here rather than by gRPC, which would answer undecodable ones with
    `UNKNOWN` and the decoder's words before any handler runs. A client that leaves a response of a
    stream unread for `max_unread_seconds` is given up; gRPC would wait for it for ever.
    """

    def __init__(self, metrics: Metrics, door: Door, *, max_unread_seconds: float) -> None:
        self._metrics = metrics
        self._door = door
        self._max_unread_seconds = max_unread_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Found]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Found:
        """Wrap the handler found for this RPC, if there is one."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None:
            self._metrics.rpc_finished(path, grpc.StatusCode.UNIMPLEMENTED)
            return None
        kind, build = _BUILDERS[handler.request_streaming, handler.response_streaming]
        read = _decode_each if handler.request_streaming else _decode
        return build(
            self._surround(path, getattr(handler, kind), read, handler.request_deserializer),
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )

    def _surround(
        self, path: str, behaviour: Callable[..., Any], read: Callable[..., Any], decode: Decode
    ) -> Callable[[Any, Context], Any]:
        async def reply(request: Any, context: Context) -> Any:
            async with Call(path, context, self._metrics):
                self._pass_door(path, context)
                return await behaviour(read(request, decode), context)

        async def reply_each(request: Any, context: Context) -> None:
            async with Call(path, context, self._metrics):
                self._pass_door(path, context)
                async with aclosing(behaviour(read(request, decode), context)) as responses:
                    async for response in responses:
                        await write_or_give_up(context, response, seconds=self._max_unread_seconds)

        return reply_each if inspect.isasyncgenfunction(behaviour) else reply

    def _pass_door(self, path: str, context: Context) -> None:
        if path.startswith(GUARDED):
            self._door.enter()
            # The stubs name a class where gRPC takes any callable.
            context.add_done_callback(self._leave)  # type: ignore[arg-type]

    def _leave(self, context: Context) -> None:
        del context
        self._door.leave()


def _decode(raw: bytes, decode: Decode) -> Any:
    if decode is None:
        return raw
    try:
        return decode(raw)
    except DecodeError:
        raise InvalidRequest(
            "request", "not a message of this method, or text in it is not valid UTF-8"
        ) from None


async def _decode_each(raws: AsyncIterator[bytes], decode: Decode) -> AsyncIterator[Any]:
    async for raw in raws:
        yield _decode(raw, decode)
