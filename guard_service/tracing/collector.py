"""The way to the collector: a bounded queue, a thread that sends, and a short farewell."""

import logging
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from threading import Thread

from grpc import Compression
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from guard_service.moderation import ConfigurationError
from guard_service.tracing.export import CountedExporter, SpanQueue
from guard_service.tracing.off import CountSpans

EXPORT_SECONDS = 5.0
"""Longest time one batch of spans may take, with its retries."""

FAREWELL_SECONDS = 2.0
"""Longest time a stopping process waits for its last spans to be sent."""

LIMITS = SpanLimits(
    max_attributes=64,
    max_events=128,
    max_links=8,
    max_span_attributes=64,
    max_event_attributes=32,
    max_link_attributes=8,
    max_attribute_length=256,
    max_span_attribute_length=256,
)
"""A backstop: what is recorded is bounded where it is recorded."""


class Collector:
    """Gives out the tracer, and sends its spans in the `exporting` context.

    Everything is said here, so that of the SDK's own variables (OTEL_...) only those count that
    add to it: attributes of the resource, and headers and certificates of the connection.

    Raises:
        ConfigurationError: The SDK cannot read its own variables.
    """

    def __init__(self, endpoint: str, *, service: str, sample_ratio: float) -> None:
        self._url = endpoint if "://" in endpoint else f"http://{endpoint}"
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=_resource(service),
            span_limits=LIMITS,
            shutdown_on_exit=False,
        )
        try:
            self._otlp = OTLPSpanExporter(
                endpoint=self._url,
                insecure=not self._url.startswith("https:"),
                timeout=EXPORT_SECONDS,
                compression=Compression.NoCompression,
            )
        except (ValueError, RuntimeError) as error:
            raise ConfigurationError(
                f"OpenTelemetry cannot use one of its own variables (OTEL_...): {error}"
            ) from error
        self.tracer = self._provider.get_tracer(service, _version())

    @contextmanager
    def exporting(self, count: CountSpans) -> Iterator[None]:
        """Send spans while the context lasts; on leaving, for two more seconds at most."""
        # What its own log lines tell, `CountedExporter` tells once and not for every batch.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
        exporter = CountedExporter(self._otlp, self._url, count)
        self._provider.add_span_processor(SpanQueue(exporter, count))
        try:
            yield
        finally:
            farewell = Thread(target=self._provider.shutdown, name="last spans", daemon=True)
            farewell.start()
            farewell.join(FAREWELL_SECONDS)
            exporter.shutdown()


def _resource(service: str) -> Resource:
    return Resource.create(
        {
            "service.name": service,
            "service.version": _version(),
            "service.instance.id": uuid.uuid4().hex,
            "host.name": socket.gethostname(),
        }
    )


def _version() -> str:
    try:
        return version("guard-service")
    except PackageNotFoundError:
        return "unknown"
