"""A real OTLP receiver on a loopback port, which keeps what it is sent."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Event:
    name: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Received:
    """One span as it arrived; ids are in hexadecimal."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    is_error: bool
    status: str
    seconds: float
    attributes: dict[str, Any]
    events: list[Event]
    resource: dict[str, Any]

    @property
    def place(self) -> tuple[str, str, str]:
        return self.service, self.kind, self.name

    def told(self, event: str) -> list[dict[str, Any]]:
        """What the events of this name say, in order."""
        return [each.attributes for each in self.events if each.name == event]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans in; `hold()` makes it a collector that never answers."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.raw = b""
        self.headers: dict[str, str] = {}
        self.endpoint = ""
        self._arrived = threading.Condition()
        self._open = threading.Event()
        self._open.set()

    def Export(self, request, context):  # noqa: N802 - the contract's name
        self._open.wait()
        with self._arrived:
            self.headers = dict(context.invocation_metadata())
            self.raw += request.SerializeToString()
            for part in request.resource_spans:
                self.spans += _received(part)
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def of(self, trace_id: str) -> "Trace":
        return Trace([each for each in self.spans if each.trace_id == trace_id])

    def wait(self, is_there: Callable[[], bool]) -> None:
        with self._arrived:
            assert self._arrived.wait_for(is_there, PATIENCE_SECONDS), [
                (each.place, each.trace_id) for each in self.spans
            ]

    async def trace(self, trace_id: str, *names: str) -> "Trace":
        """The trace once spans of all these names are there; one name may stand several times."""

        def is_there() -> bool:
            found = [each.name for each in self.of(trace_id).spans]
            return all(found.count(name) >= names.count(name) for name in names)

        await asyncio.to_thread(self.wait, is_there)
        return self.of(trace_id)


class Trace:
    """The spans of one request."""

    def __init__(self, spans: list[Received]) -> None:
        self.spans = spans

    def one(self, name: str, kind: str | None = None) -> Received:
        [span] = [each for each in self.spans if each.name == name and kind in {None, each.kind}]
        return span

    def path_to(self, span: Received) -> list[str]:
        """Names of the spans it is in, from the outermost one to itself."""
        by_id = {each.span_id: each for each in self.spans}
        path = [span]
        while path[0].parent_id in by_id:
            path.insert(0, by_id[path[0].parent_id])
        return [each.name for each in path]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        collector.release()
        server.stop(grace=None).wait()


def _received(part: ResourceSpans) -> list[Received]:
    resource = _attributes(part.resource.attributes)
    return [_span(span, resource) for scope in part.scope_spans for span in scope.spans]


def _span(span: Span, resource: dict[str, Any]) -> Received:
    return Received(
        service=resource["service.name"],
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        trace_state=span.trace_state,
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        status=span.status.message,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes=_attributes(span.attributes),
        events=[Event(event.name, _attributes(event.attributes)) for event in span.events],
        resource=resource,
    )


def _attributes(given: list[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in given}


def _value(given: AnyValue) -> Any:
    kind = given.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in given.array_value.values]
    return getattr(given, kind)
