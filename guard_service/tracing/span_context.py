"""The current span: where it comes from, how it is handed on, and what else is told of it."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.typing import EventDict, WrappedLogger

MAX_TRACESTATE_CHARACTERS = 512
"""What the W3C wants passed on at least; longer ones are dropped, for no callee need take them."""

_W3C = TraceContextTextMapPropagator()
_Item = TypeVar("_Item")


def remote_context(headers: Iterable[tuple[str, str | bytes]]) -> Context:
    """The caller's span, by its `traceparent` and `tracestate`; names are in lower case.

    Nothing but these is taken over: no baggage, nothing of the current context, and none of it
    where they are not there, twice there or malformed.
    """
    found: dict[str, list[str]] = {"traceparent": [], "tracestate": []}
    for name, value in headers:
        if name in found and isinstance(value, str):
            found[name].append(value)
    if len(found["traceparent"]) != 1:
        return Context()
    carrier = {"traceparent": found["traceparent"][0]}
    state = ",".join(found["tracestate"])
    if len(state) <= MAX_TRACESTATE_CHARACTERS:
        carrier["tracestate"] = state
    return _W3C.extract(carrier, context=Context())


def outgoing_headers() -> tuple[tuple[str, str], ...]:
    """`traceparent` and `tracestate` of the current span; nothing where there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return tuple(carrier.items())


def trace_id() -> str | None:
    """The current trace, recorded or not."""
    current = trace.get_current_span().get_span_context()
    return trace.format_trace_id(current.trace_id) if current.is_valid else None


def exemplar() -> dict[str, str] | None:
    """Labels that lead from a measurement to the current trace, if that is recorded."""
    current = trace.get_current_span().get_span_context()
    if not (current.is_valid and current.trace_flags.sampled):
        return None
    return {"trace_id": trace.format_trace_id(current.trace_id)}


def add_trace_ids(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor that names the current span in a log line."""
    del logger, method
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        event["trace_id"] = trace.format_trace_id(current.trace_id)
        event["span_id"] = trace.format_span_id(current.span_id)
    return event


def context_of(span: Span) -> Context:
    """The current context with this span as the current one."""
    return trace.set_span_in_context(span)


@contextmanager
def current(context: Context) -> Iterator[None]:
    """Make this the current context for a block of one task."""
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


async def each_within(context: Context, items: AsyncIterator[_Item]) -> AsyncGenerator[_Item, None]:
    """The items, made in this context; whoever takes them stays in their own.

    Entering a context around a whole asynchronous generator would not do: each step of it may run
    in another task, and leaving a context in another task than it was entered in fails.
    """
    try:
        while True:
            token = contexts.attach(context)  # not `current`: there are thousands of items
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            finally:
                contexts.detach(token)
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            with current(context):
                await items.aclose()


def mark_failed(span: Span, kind: str) -> None:
    """Say that the span's work failed, by a fixed name: an error's own words may hold a text."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, kind))
