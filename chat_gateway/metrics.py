"""What Prometheus reads of the gateway: the observer's events and the outcome of every call."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product

from grpc import StatusCode
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from chat_gateway.observer import Action, Decision, Outcome
from guard_service.moderation import ConfigurationError, Phase, Verdict

RPCS = ("Chat", "ChatStream", "Check", "Watch")
PATHS = (
    "/",
    "/v1/chat/completions",
    "/v1/moderations",
    "/v1/models",
    "/v1/policies",
    "/health/live",
    "/health/ready",
)
CATEGORIES = tuple(f"S{number}" for number in range(1, 15))
GENERATOR_ERRORS = (
    "InvalidChat",
    "UnknownModel",
    "TooBusy",
    "GeneratorFailed",
    "OutOfTime",
    "cancelled",
)
OTHER = "other"
"""Stands for every label value outside its list, so that no caller can make new series."""

NO_VERDICT = "none"
"""The category of a block without a verdict."""

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The instruments of one gateway, in a registry of their own; all labels exist from the start.

    An `Observer`. All methods are thread-safe and cheap.
    """

    def __init__(self) -> None:
        # A `_created` series beside every child would double the exposition and tell nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._describe_requests()
        self._describe_guarding()
        self._describe_generator()
        self._audit_records = self._counter(
            "gateway_audit_records",
            "Audit records by what became of them.",
            result=("written", "dropped"),
        )
        self._audit_errors = self._counter(
            "gateway_audit_write_errors", "Attempts to write audit records that failed."
        )
        self._ready = self._gauge("gateway_ready", "1 while new requests are welcome, else 0.")

    def _describe_requests(self) -> None:
        self._requests = self._counter(
            "gateway_requests", "Chats by how they ended.", outcome=Outcome
        )
        self._in_flight = self._gauge("gateway_requests_in_flight", "Chats being answered.")
        self._seconds = self._histogram("gateway_request_seconds", "Time of a whole chat.")
        self._first_text = self._histogram(
            "gateway_first_text_seconds", "Time to the first released text or tool call."
        )
        self._http = self._counter(
            "gateway_http_responses",
            "HTTP responses by path and status.",
            path=(*PATHS, OTHER),
            status=("1xx", "2xx", "3xx", "4xx", "5xx"),
        )
        self._rpcs = self._counter(
            "gateway_rpcs",
            "RPCs by method and gRPC status.",
            method=(*RPCS, OTHER),
            code=[code.name for code in StatusCode],
        )

    def _describe_guarding(self) -> None:
        self._delay = self._histogram(
            "gateway_guard_delay_seconds", "Time the guard added, by phase.", phase=Phase
        )
        self._verdicts = self._counter(
            "gateway_verdicts", "Verdicts by phase.", phase=Phase, result=("safe", "unsafe")
        )
        self._decisions = self._counter(
            "gateway_decisions", "Judged prompts and choices by fate.", phase=Phase, action=Action
        )
        self._blocks = self._counter(
            "gateway_blocks",
            "Violated categories of blocked prompts and choices.",
            phase=Phase,
            category=(*CATEGORIES, OTHER, NO_VERDICT),
        )
        self._fail_open = self._counter(
            "gateway_fail_open", "Prompts and choices that passed unjudged.", phase=Phase
        )
        self._released = self._counter("gateway_released_characters", "Characters released.")
        self._withheld = self._counter("gateway_withheld_characters", "Characters never released.")
        self._held = self._histogram(
            "gateway_held_seconds", "How long released text had been held back."
        )

    def _describe_generator(self) -> None:
        self._generator_began = self._histogram(
            "gateway_generator_first_event_seconds", "Time to the generator's first event."
        )
        self._generator_ended = self._histogram(
            "gateway_generator_seconds", "Time of a whole generation."
        )
        self._generator_errors = self._counter(
            "gateway_generator_errors",
            "Generations that ended early, by error.",
            error=(*GENERATOR_ERRORS, OTHER),
        )

    def _counter(self, name: str, documentation: str, **labels: Iterable[str]) -> Counter:
        counter = Counter(name, documentation, tuple(labels), registry=self.registry)
        if labels:
            for values in product(*labels.values()):
                counter.labels(*values)
        return counter

    def _histogram(self, name: str, documentation: str, **labels: Iterable[str]) -> Histogram:
        histogram = Histogram(
            name, documentation, tuple(labels), buckets=SECONDS_BUCKETS, registry=self.registry
        )
        if labels:
            for values in product(*labels.values()):
                histogram.labels(*values)
        return histogram

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self.registry)

    def started(self) -> None:
        """Count a chat in."""
        self._in_flight.inc()

    def finished(self, outcome: Outcome, *, seconds: float) -> None:
        """Count it out, by how it ended."""
        self._in_flight.dec()
        self._requests.labels(outcome).inc()
        self._seconds.observe(seconds)

    def judged(self, phase: Phase, verdict: Verdict) -> None:
        """Count a verdict."""
        self._verdicts.labels(phase, "unsafe" if verdict.unsafe else "safe").inc()

    def decided(self, decision: Decision) -> None:
        """Count what became of a prompt or a choice, and why it was blocked."""
        self._decisions.labels(decision.phase, decision.action).inc()
        if decision.action is Action.UNJUDGED:
            self._fail_open.labels(decision.phase).inc()
        if decision.action is Action.BLOCKED:
            for category in _categories_of(decision.verdict):
                self._blocks.labels(decision.phase, category).inc()

    def guard_delayed(self, phase: Phase, *, seconds: float) -> None:
        """Note what the guard cost."""
        self._delay.labels(phase).observe(seconds)

    def first_text_released(self, *, seconds: float) -> None:
        """Note how long a client waited for the first text."""
        self._first_text.observe(seconds)

    def text_released(self, *, num_characters: int, held_seconds: float) -> None:
        """Count text that went to a client."""
        self._released.inc(num_characters)
        self._held.observe(held_seconds)

    def text_withheld(self, *, num_characters: int) -> None:
        """Count text that never will."""
        self._withheld.inc(num_characters)

    def generator_began(self, *, seconds: float) -> None:
        """Note the generator's first event."""
        self._generator_began.observe(seconds)

    def generator_ended(self, *, seconds: float, error: str) -> None:
        """Note the end of a generation."""
        self._generator_ended.observe(seconds)
        if error:
            known = error if error in GENERATOR_ERRORS else OTHER
            self._generator_errors.labels(known).inc()

    def http_answered(self, path: str, status: int) -> None:
        """Count an HTTP response; a path this gateway does not define is `other`."""
        known = path if path in PATHS else OTHER
        self._http.labels(known, f"{status // 100}xx").inc()

    def rpc_finished(self, method: str, code: StatusCode) -> None:
        """Count an RPC by its bare method name; one this gateway does not define is `other`."""
        self._rpcs.labels(method if method in RPCS else OTHER, code.name).inc()

    def audit_record(self, result: str) -> None:
        """Count an audit record as `written` or `dropped`."""
        self._audit_records.labels(result).inc()

    def audit_write_failed(self) -> None:
        """Count a failed attempt to write."""
        self._audit_errors.inc()

    def show_ready(self, *, ready: bool) -> None:
        """Publish whether new requests are welcome."""
        self._ready.set(ready)


def _categories_of(verdict: Verdict | None) -> Sequence[str]:
    if verdict is None:
        return (NO_VERDICT,)
    codes = [category.code for category in verdict.categories]
    return [code if code in CATEGORIES else OTHER for code in codes] or [OTHER]


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
