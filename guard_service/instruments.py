"""How both services make what Prometheus reads: every series is there before anything happened."""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

SPAN_RESULTS = ("exported", "failed", "queue_full")
"""What becomes of the spans that tracing makes."""

Exemplar = Callable[[], dict[str, str] | None]
"""Labels that lead from a measurement made now to its trace, if that is recorded."""


def no_exemplar() -> None:
    """Lead nowhere."""


class Instruments:
    """Makes the instruments of one service in `registry`, with those of its process and release.

    A counter that appears with its first event loses that event to `rate`, so a child is made for
    each combination of the label values given.
    """

    def __init__(self, service: str) -> None:
        # A `_created` series beside every child would double the exposition and tell nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._service = service
        ProcessCollector(registry=self.registry)
        self.info("build", "Which release runs.").info({"version": version("guard-service")})

    def counter(self, name: str, documentation: str, **labels: Iterable[str]) -> Counter:
        """A counter named after the service; it is exposed with `_total`."""
        counter = Counter(self._full(name), documentation, tuple(labels), registry=self.registry)
        for values in _children(labels):
            counter.labels(*values)
        return counter

    def histogram(
        self, name: str, documentation: str, buckets: Sequence[float], **labels: Iterable[str]
    ) -> Histogram:
        """A histogram with these upper bounds."""
        histogram = Histogram(
            self._full(name), documentation, tuple(labels), buckets=buckets, registry=self.registry
        )
        for values in _children(labels):
            histogram.labels(*values)
        return histogram

    def gauge(self, name: str, documentation: str, **labels: Iterable[str]) -> Gauge:
        """A gauge that is set."""
        gauge = Gauge(self._full(name), documentation, tuple(labels), registry=self.registry)
        for values in _children(labels):
            gauge.labels(*values)
        return gauge

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge that is read at each scrape, on another thread."""
        self.gauge(name, documentation).set_function(read)

    def info(self, name: str, documentation: str, *labels: str) -> Info:
        """Facts in labels; it is exposed with `_info` and is always 1."""
        return Info(self._full(name), documentation, labels, registry=self.registry)

    def _full(self, name: str) -> str:
        return f"{self._service}_{name}"


def _children(labels: dict[str, Iterable[str]]) -> Iterable[tuple[str, ...]]:
    return product(*labels.values()) if labels else ()
