"""What Prometheus reads: the observer's events, the queue's depth and the outcome of every RPC."""

from collections.abc import Callable, Iterable
from typing import Protocol

from grpc import StatusCode

from guard_service.instruments import SPAN_RESULTS, Exemplar, Instruments, no_exemplar
from guard_service.moderation import ModelInfo, Phase, Verdict
from guard_service.observer import Drop, NullObserver
from guard_service.policy import Policy

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

    @property
    def seconds_since_progress(self) -> float:
        """How long there has been work without a finished batch; 0 when there is none."""

    @property
    def max_batch_tokens(self) -> int:
        """How many new tokens a batch may hold now."""

    @property
    def max_queue_items(self) -> int:
        """How many prompts may wait."""

    @property
    def max_queue_tokens(self) -> int:
        """How many new tokens may wait."""


class Metrics(NullObserver):
    """The instruments of one service, in a registry of their own; all labels exist from the start.

    An `Observer`. All methods are thread-safe and cheap.
    """

    def __init__(self, category_codes: Iterable[str], *, exemplar: Exemplar = no_exemplar) -> None:
        self._exemplar = exemplar
        self._make = make = Instruments("guard")
        self.registry = make.registry
        self._stage = make.histogram(
            "stage_seconds",
            "Time of a verdict by stage and phase.",
            SECONDS_BUCKETS,
            stage=("tokenise", "queue", "inference", "total"),
            phase=Phase,
        )
        self._batch_items = make.histogram("batch_items", "Prompts per batch.", ITEMS_BUCKETS)
        self._batch_tokens = make.histogram(
            "batch_tokens", "New tokens per batch, without shared prefixes.", TOKENS_BUCKETS
        )
        self._batch_seconds = make.histogram(
            "batch_seconds", "Time of a batch inside the model.", SECONDS_BUCKETS
        )
        self._verdicts = make.counter(
            "verdicts", "Verdicts by phase and result.", phase=Phase, result=("safe", "unsafe")
        )
        self._violations = make.counter(
            "violations", "Violated categories of verdicts.", category=set(category_codes)
        )
        self._dropped = make.counter(
            "dropped", "Judgements that ended without a verdict, by reason.", reason=Drop
        )
        self._out_of_memory = make.counter(
            "out_of_memory", "Batches that did not fit the memory of the model's device."
        )
        self._prefix_lookups = make.counter(
            "prefix_cache_lookups", "Prefix cache lookups.", result=("hit", "miss")
        )
        self._requests = make.counter(
            "requests",
            "RPCs by method and gRPC status.",
            method=(*METHODS, OTHER_METHOD),
            code=[code.name for code in StatusCode],
        )
        self._spans = make.counter(
            "trace_spans", "Spans by what became of them.", result=SPAN_RESULTS
        )
        self._ready = make.gauge("ready", "1 while new work is welcome, else 0.")
        self._draining = make.gauge("draining", "1 from the signal to stop on, else 0.")
        self._model = make.info("model", "Which weights judge.")
        self._policies = make.info("policy", "Which policies may be asked for.", "id")

    def judged(self, verdict: Verdict) -> None:
        """Count a verdict, its violations and where its time went."""
        timings, exemplar = verdict.timings, self._exemplar()
        for stage, seconds in (
            ("tokenise", timings.tokenise_seconds),
            ("queue", timings.queue_seconds),
            ("inference", timings.inference_seconds),
            ("total", timings.total_seconds),
        ):
            self._stage.labels(stage, verdict.phase).observe(seconds, exemplar)
        self._verdicts.labels(verdict.phase, "unsafe" if verdict.unsafe else "safe").inc()
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

    def memory_ran_out(self) -> None:
        """Count a batch that did not fit the device's memory."""
        self._out_of_memory.inc()

    def prefix_looked_up(self, *, hit: bool) -> None:
        """Count a lookup in the prefix cache."""
        self._prefix_lookups.labels("hit" if hit else "miss").inc()

    def rpc_finished(self, method: str, code: StatusCode) -> None:
        """Count an RPC by its bare method name; one this service does not define is `other`."""
        self._requests.labels(method if method in METHODS else OTHER_METHOD, code.name).inc()

    def spans_ended(self, result: str, number: int) -> None:
        """Count spans that were `exported`, `failed` to be, or found the `queue_full`."""
        self._spans.labels(result).inc(number)

    def show_model(self, model: ModelInfo) -> None:
        """Publish which weights judge."""
        self._model.info(
            {"id": model.id, "revision": model.revision, "prompt_format": model.prompt_format}
        )

    def show_policies(self, policies: Iterable[Policy]) -> None:
        """Publish by which policies it judges."""
        for policy in policies:
            facts = {"version": policy.version, "digest": policy.digest}
            self._policies.labels(policy.id).info(facts)

    def show_ready(self, *, ready: bool) -> None:
        """Publish whether new work is welcome."""
        self._ready.set(ready)

    def show_draining(self) -> None:
        """Publish that the service will end."""
        self._draining.set(1)

    def watch_queue(self, queue: QueueDepth) -> None:
        """Publish how the queue is at each scrape, and how long it may become."""
        watch = self._make.watch
        watch("queue_items", "Prompts waiting for the model.", lambda: queue.num_queued_items)
        watch("queue_tokens", "New tokens waiting.", lambda: queue.num_queued_tokens)
        watch("queue_max_items", "Prompts that may wait.", lambda: queue.max_queue_items)
        watch("queue_max_tokens", "New tokens that may wait.", lambda: queue.max_queue_tokens)
        watch(
            "max_batch_tokens",
            "New tokens a batch may hold; less for good once the device's memory ran out.",
            lambda: queue.max_batch_tokens,
        )
        watch(
            "queue_oldest_age_seconds",
            "How long the first prompt in the queue has waited.",
            lambda: queue.oldest_age_seconds,
        )
        watch(
            "seconds_since_progress",
            "How long there has been work without a finished batch; 0 when idle.",
            lambda: queue.seconds_since_progress,
        )

    def watch_streams(self, num_open_streams: Callable[[], int], *, max_streams: int) -> None:
        """Publish the number of open streams as it is at each scrape, and how many may be."""
        self._make.watch("open_streams", "Open moderation streams.", num_open_streams)
        self._make.watch("max_open_streams", "Streams that may be open.", lambda: max_streams)
