"""What Prometheus reads: the observer's events, the queue's depth and the outcome of every RPC."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Protocol

from grpc import StatusCode
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    start_http_server,
)

from guard_service.moderation import ConfigurationError, ModelInfo, Phase, Verdict
from guard_service.observer import Drop

METHODS = ("Moderate", "ModerateBatch", "ModerateStream", "GetInfo", "Check", "Watch")
OTHER_METHOD = "other"

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ITEMS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


class QueueDepth(Protocol):
    """What the queue's gauges read; on another thread, at every scrape."""

    @property
    def num_queued_items(self) -> int:
        """Prompts waiting."""

    @property
    def num_queued_tokens(self) -> int:
        """Their new tokens."""

    @property
    def oldest_age_seconds(self) -> float:
        """How long the first of them has waited; 0 when none waits."""


class Metrics:
    """The instruments of one service, in a registry of their own; all labels exist from the start.

    An `Observer`. All methods are thread-safe and cheap.
    """

    def __init__(self, category_codes: Iterable[str]) -> None:
        # A `_created` series beside every child would double the exposition and tell nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._stage = self._histogram(
            "guard_stage_seconds",
            "Time of a verdict by stage and phase.",
            SECONDS_BUCKETS,
            stage=("tokenise", "queue", "inference", "total"),
            phase=Phase,
        )
        self._batch_items = self._histogram(
            "guard_batch_items", "Prompts per batch.", ITEMS_BUCKETS
        )
        self._batch_tokens = self._histogram(
            "guard_batch_tokens", "New tokens per batch, without shared prefixes.", TOKENS_BUCKETS
        )
        self._batch_seconds = self._histogram(
            "guard_batch_seconds", "Time of a batch inside the model.", SECONDS_BUCKETS
        )
        self._verdicts = self._counter(
            "guard_verdicts", "Verdicts by result.", result=("safe", "unsafe")
        )
        self._violations = self._counter(
            "guard_violations", "Violated categories of verdicts.", category=set(category_codes)
        )
        self._dropped = self._counter(
            "guard_dropped", "Work that ended without a verdict, by reason.", reason=Drop
        )
        self._prefix_lookups = self._counter(
            "guard_prefix_cache_lookups", "Prefix cache lookups.", result=("hit", "miss")
        )
        self._requests = self._counter(
            "guard_requests",
            "RPCs by method and gRPC status.",
            method=(*METHODS, OTHER_METHOD),
            code=[code.name for code in StatusCode],
        )
        self._ready = self._gauge("guard_ready", "1 while new work is welcome, else 0.")
        self._model = Info("guard_model", "Which weights judge.", registry=self.registry)

    def _counter(self, name: str, documentation: str, **labels: Iterable[str]) -> Counter:
        counter = Counter(name, documentation, tuple(labels), registry=self.registry)
        for values in product(*labels.values()):
            counter.labels(*values)
        return counter

    def _histogram(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float],
        **labels: Iterable[str],
    ) -> Histogram:
        histogram = Histogram(
            name, documentation, tuple(labels), buckets=buckets, registry=self.registry
        )
        if labels:
            for values in product(*labels.values()):
                histogram.labels(*values)
        return histogram

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self.registry)

    def judged(self, verdict: Verdict) -> None:
        """Count a verdict, its violations and where its time went."""
        timings = verdict.timings
        for stage, seconds in (
            ("tokenise", timings.tokenise_seconds),
            ("queue", timings.queue_seconds),
            ("inference", timings.inference_seconds),
            ("total", timings.total_seconds),
        ):
            self._stage.labels(stage, verdict.phase).observe(seconds)
        self._verdicts.labels("unsafe" if verdict.unsafe else "safe").inc()
        for category in verdict.categories:
            self._violations.labels(category.code).inc()

    def batch_scored(self, *, num_items: int, num_tokens: int, seconds: float) -> None:
        """Note the size and the time of a batch."""
        self._batch_items.observe(num_items)
        self._batch_tokens.observe(num_tokens)
        self._batch_seconds.observe(seconds)

    def dropped(self, reason: Drop) -> None:
        """Count work that ended without a verdict."""
        self._dropped.labels(reason).inc()

    def prefix_looked_up(self, *, hit: bool) -> None:
        """Count a lookup in the prefix cache."""
        self._prefix_lookups.labels("hit" if hit else "miss").inc()

    def rpc_finished(self, method: str, code: StatusCode) -> None:
        """Count an RPC by its bare method name; one this service does not define is `other`."""
        self._requests.labels(method if method in METHODS else OTHER_METHOD, code.name).inc()

    def show_model(self, model: ModelInfo) -> None:
        """Publish which weights judge."""
        self._model.info(
            {"id": model.id, "revision": model.revision, "prompt_format": model.prompt_format}
        )

    def show_ready(self, *, ready: bool) -> None:
        """Publish whether new work is welcome."""
        self._ready.set(ready)

    def watch_queue(self, queue: QueueDepth) -> None:
        """Publish the queue's depth as it is at each scrape."""
        self._gauge("guard_queue_items", "Prompts waiting for the model.").set_function(
            lambda: queue.num_queued_items
        )
        self._gauge("guard_queue_tokens", "New tokens waiting for the model.").set_function(
            lambda: queue.num_queued_tokens
        )
        self._gauge(
            "guard_queue_oldest_age_seconds", "How long the first prompt in the queue has waited."
        ).set_function(lambda: queue.oldest_age_seconds)

    def watch_streams(self, num_open_streams: Callable[[], int]) -> None:
        """Publish the number of open streams as it is at each scrape."""
        self._gauge("guard_open_streams", "Open moderation streams.").set_function(num_open_streams)


@contextmanager
def metrics_server(metrics: Metrics, host: str, port: int) -> Iterator[int]:
    """Serve `/metrics` on its own thread while the context lasts; yields the port bound.

    Port 0 binds any free port.

    Raises:
        ConfigurationError: The address cannot be bound.
    """
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve metrics on {host}:{port}: {error.strerror}"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
