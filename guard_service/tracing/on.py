"""What tracing adds to a service, switched on."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import grpc

from guard_service.observer import Observer
from guard_service.tracing import span_context
from guard_service.tracing.collector import Collector
from guard_service.tracing.off import CountSpans, Headers, NoTracing
from guard_service.tracing.rpc import SpanInterceptor
from guard_service.tracing.stages import StageSpans


class Tracing(NoTracing):
    """Spans from the service's calls, sent to `collector`."""

    log_processors = (span_context.add_trace_ids,)

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._tracer = collector.tracer

    def exporting(self, count: CountSpans) -> AbstractContextManager[None]:
        """Send spans while the context lasts; leaving it waits for the last of them, briefly."""
        return self._collector.exporting(count)

    def exemplar(self) -> dict[str, str] | None:
        """What leads from a measurement to the trace of the current request, if it is recorded."""
        return span_context.exemplar()

    def trace_id(self) -> str | None:
        """The trace of the current request, recorded or not."""
        return span_context.trace_id()

    def headers(self) -> Headers:
        """What tells the callee of the current span."""
        return span_context.outgoing_headers()

    def interceptors(self, *prefixes: str) -> Sequence[grpc.aio.ServerInterceptor]:
        """Go first at a gRPC server; calls whose path has one of the prefixes get a span."""
        return (SpanInterceptor(self._tracer, prefixes),)

    def guard_observers(self) -> Sequence[Observer]:
        """Listen to the core of the guard."""
        return (StageSpans(self._tracer),)
