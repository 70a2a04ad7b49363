"""Spans on their way out: counted, never waited for, and one log line when they do not arrive."""

from collections.abc import Sequence
from threading import Lock

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from guard_service.tracing.off import CountSpans

MAX_WAITING_SPANS = 4096
MAX_BATCH_SPANS = 512
PAUSE_MS = 1000
"""Longest time a span waits for others to be sent with."""

_log = structlog.get_logger(__name__)


class CountedExporter(SpanExporter):
    """An exporter whose successes and failures are counted; trouble is logged as it begins."""

    def __init__(self, exporter: SpanExporter, url: str, count: CountSpans) -> None:
        self._exporter = exporter
        self._url = url
        self._count = count
        self._is_failing = False
        self._is_closed = False
        self.num_taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, within the time the exporter gives itself."""
        self.num_taken += len(spans)
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - spans are worth no trouble, whatever it was
            result = SpanExportResult.FAILURE
        has_failed = result is not SpanExportResult.SUCCESS
        self._count("failed" if has_failed else "exported", len(spans))
        if has_failed and not self._is_failing:
            _log.warning("spans do not reach the collector and are dropped", collector=self._url)
        elif self._is_failing and not has_failed:
            _log.info("spans reach the collector again", collector=self._url)
        self._is_failing = has_failed
        return result

    def shutdown(self) -> None:
        """Give up what is being sent. Calling it twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            self._exporter.shutdown()


class SpanQueue(BatchSpanProcessor):
    """Hands ended spans to the thread that sends them; those that find it full are dropped."""

    def __init__(self, exporter: CountedExporter, count: CountSpans) -> None:
        super().__init__(
            exporter,
            max_queue_size=MAX_WAITING_SPANS,
            max_export_batch_size=MAX_BATCH_SPANS,
            schedule_delay_millis=PAUSE_MS,
            export_timeout_millis=PAUSE_MS,  # without effect: the exporter keeps its own time
        )
        self._exporter = exporter
        self._count = count
        self._num_put = 0
        self._lock = Lock()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a recorded span; returns at once, on any thread."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            # The SDK would drop the oldest and count nothing; here its queue never overflows.
            is_full = self._num_put - self._exporter.num_taken >= MAX_WAITING_SPANS
            self._num_put += not is_full
        if is_full:
            self._count("queue_full", 1)
        else:
            super().on_end(span)
