"""A span around every call a gRPC server answers, as the child of its caller's."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import StatusCode
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer
from structlog.contextvars import get_contextvars

from guard_service.tracing.attributes import REQUEST_ID, rpc_attributes
from guard_service.tracing.span_context import current, each_within, mark_failed, remote_context

Handler = Any
"""The stubs describe handlers of the synchronous API only."""

_FAULTS = {
    StatusCode.UNKNOWN,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.UNIMPLEMENTED,
    StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
}
"""Statuses that are the server's failure; the others are the caller's own."""

_CALL = contexts.create_key("call")


@dataclass(slots=True)
class ServedCall:
    """The call at hand: its span, and how much was recorded in it, which has bounds."""

    span: Span
    method: str
    num_stages: int = 0
    num_verdicts: int = 0
    num_unsafe: int = 0


def served_call() -> ServedCall | None:
    """The call that the current task works for, if it is recorded."""
    call = contexts.get_value(_CALL)
    return call if isinstance(call, ServedCall) and call.span.is_recording() else None


class SpanInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds the handlers below `prefixes`; has to come before every other interceptor."""

    def __init__(self, tracer: Tracer, prefixes: Sequence[str]) -> None:
        self._tracer = tracer
        self._prefixes = tuple(prefixes)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Surround the handler found for this call."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or not path.startswith(self._prefixes):
            return handler
        kind = _kind_of(handler)
        parent = remote_context(handler_call_details.invocation_metadata or ())
        return handler._replace(**{kind: self._surround(path, parent, getattr(handler, kind))})

    def _surround(
        self, path: str, parent: Context, behaviour: Callable[..., Any]
    ) -> Callable[[Any, Any], Any]:
        async def reply(request: Any, context: Any) -> Any:
            with self._call(path, parent, context) as within, current(within):
                return await behaviour(request, context)

        async def reply_each(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._call(path, parent, context) as within:
                async with aclosing(each_within(within, behaviour(request, context))) as replies:
                    async for each in replies:
                        yield each

        return reply_each if inspect.isasyncgenfunction(behaviour) else reply

    @contextmanager
    def _call(self, path: str, parent: Context, rpc: Any) -> Iterator[Context]:
        """The context of one call, whose span ends with the block."""
        span = self._tracer.start_span(
            path.lstrip("/"), parent, SpanKind.SERVER, rpc_attributes(path)
        )
        call = ServedCall(span, path.rpartition("/")[2])
        code = StatusCode.OK
        try:
            yield contexts.set_value(_CALL, call, trace.set_span_in_context(span, parent))
        except (asyncio.CancelledError, GeneratorExit):
            late = rpc.time_remaining() == 0
            code = StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED
            raise
        except BaseException:
            code = _code_of(rpc)
            raise
        finally:
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code in _FAULTS:
                mark_failed(span, code.name)
            if name := get_contextvars().get("request_id"):
                span.set_attribute(REQUEST_ID, name)
            span.end()


def _kind_of(handler: Handler) -> str:
    """The field that holds the handler's behaviour, such as `unary_stream`."""
    asked = "stream" if handler.request_streaming else "unary"
    answered = "stream" if handler.response_streaming else "unary"
    return f"{asked}_{answered}"


def _code_of(rpc: Any) -> StatusCode:
    """The status an RPC was aborted with; gRPC itself makes `UNKNOWN` of any other error."""
    code = rpc.code()
    number = code.value[0] if isinstance(code, StatusCode) else code
    known = (each for each in StatusCode if each.value[0] == number)
    return next((each for each in known if each is not StatusCode.OK), StatusCode.UNKNOWN)
