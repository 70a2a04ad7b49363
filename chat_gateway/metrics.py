"""What Prometheus reads of the gateway: the observer's events and the outcome of every call."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from grpc import StatusCode

from chat_gateway.chat import InvalidChat
from chat_gateway.observer import Action, Decision, Kind, Outcome
from chat_gateway.policy import GatewayPolicy
from guard_service.instruments import SPAN_RESULTS, Exemplar, Instruments, no_exemplar
from guard_service.moderation import Phase, Verdict

RPCS = ("Chat", "ChatStream", "Process", "Check", "Watch")
PATHS = (
    "/",
    "/v1/chat/completions",
    "/v1/moderations",
    "/v1/models",
    "/v1/policies",
    "/predict",
    "/health/live",
    "/health/ready",
)
MODERATION_OUTCOMES = (
    Outcome.ANSWERED,
    Outcome.REFUSED,
    Outcome.BUSY,
    Outcome.GUARD_UNAVAILABLE,
    Outcome.OUT_OF_TIME,
    Outcome.CANCELLED,
    Outcome.FAILED,
)
CATEGORIES = tuple(f"S{number}" for number in range(1, 15))
GENERATOR_ERRORS = (
    "InvalidChat",
    "UnknownModel",
    "TooBusy",
    "GeneratorFailed",
    "ServerRefused",
    "Unreached",
    "Unavailable",
    "OutOfTime",
    "cancelled",
)
OTHER = "other"
"""Stands for every label value outside its list, so that no caller can make new series."""

NO_VERDICT = "none"
"""The category of a block, or the result of a judgement, without a verdict."""
REFUSED = "refused"
"""The category of a prompt that the guard takes for no request, as one that is too long."""

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Dependency(StrEnum):
    """What it takes to answer, besides the gateway."""

    GUARD = "guard"
    GENERATOR = "generator"


class Metrics:
    """The instruments of one gateway, in a registry of their own; all labels exist from the start.

    An `Observer`. All methods are thread-safe and cheap.
    """

    def __init__(self, *, exemplar: Exemplar = no_exemplar) -> None:
        self._exemplar = exemplar
        make = Instruments("gateway")
        self.registry = make.registry
        self._describe_requests(make)
        self._describe_moderations(make)
        self._describe_guarding(make)
        self._describe_generator(make)
        self._audit_records = make.counter(
            "audit_records",
            "Audit records by what became of them.",
            result=("written", "dropped"),
        )
        self._audit_errors = make.counter(
            "audit_write_errors", "Attempts to write audit records that failed."
        )
        self._spans = make.counter(
            "trace_spans", "Spans by what became of them.", result=SPAN_RESULTS
        )
        self._ready = make.gauge("ready", "1 while new requests are welcome, else 0.")
        self._draining = make.gauge("draining", "1 from the signal to stop on, else 0.")
        self._dependencies = make.gauge(
            "dependency_ready",
            "1 if it was ready when last asked, else 0.",
            dependency=Dependency,
        )
        self._policies = make.info("policy", "Which policies guard requests.", "id")

    def _describe_requests(self, make: Instruments) -> None:
        self._requests = make.counter("requests", "Chats by how they ended.", outcome=Outcome)
        self._in_flight = make.gauge("requests_in_flight", "Chats being answered.")
        self._max_in_flight = make.gauge(
            "max_requests_in_flight", "Requests that may be answered at the same time."
        )
        self._seconds = make.histogram("request_seconds", "Time of a whole chat.", SECONDS_BUCKETS)
        self._first_text = make.histogram(
            "first_text_seconds", "Time to the first released text or tool call.", SECONDS_BUCKETS
        )
        self._http = make.counter(
            "http_responses",
            "HTTP responses by path and status.",
            path=(*PATHS, OTHER),
            status=("1xx", "2xx", "3xx", "4xx", "5xx"),
        )
        self._rpcs = make.counter(
            "rpcs",
            "RPCs by method and gRPC status.",
            method=(*RPCS, OTHER),
            code=[code.name for code in StatusCode],
        )

    def _describe_moderations(self, make: Instruments) -> None:
        self._moderations = make.counter(
            "moderations",
            "Requests for verdicts alone by how they ended.",
            outcome=MODERATION_OUTCOMES,
        )
        self._moderation_seconds = make.histogram(
            "moderation_seconds", "Time of a whole request for verdicts alone.", SECONDS_BUCKETS
        )
        self._moderated_texts = make.counter(
            "moderated_texts",
            "Texts that verdicts alone were asked for, by verdict.",
            result=("safe", "unsafe", NO_VERDICT),
        )

    def _describe_guarding(self, make: Instruments) -> None:
        self._delay = make.histogram(
            "guard_delay_seconds", "Time the guard added, by phase.", SECONDS_BUCKETS, phase=Phase
        )
        self._verdicts = make.counter(
            "verdicts", "Verdicts by phase.", phase=Phase, result=("safe", "unsafe")
        )
        self._decisions = make.counter(
            "decisions", "Judged prompts and choices by fate.", phase=Phase, action=Action
        )
        self._blocks = make.counter(
            "blocks",
            "Violated categories of blocked prompts and choices; none is a block without verdict, "
            "refused a prompt that the guard takes for no request.",
            phase=Phase,
            category=(*CATEGORIES, OTHER, NO_VERDICT, REFUSED),
        )
        self._fail_open = make.counter(
            "fail_open", "Prompts and choices that passed unjudged.", phase=Phase
        )
        self._released = make.counter("released_characters", "Characters released.")
        self._withheld = make.counter("withheld_characters", "Characters never released.")
        self._held = make.histogram(
            "held_seconds", "How long released text had been held back.", SECONDS_BUCKETS
        )

    def _describe_generator(self, make: Instruments) -> None:
        self._generator_began = make.histogram(
            "generator_first_event_seconds", "Time to the generator's first event.", SECONDS_BUCKETS
        )
        self._generator_ended = make.histogram(
            "generator_seconds", "Time of a whole generation.", SECONDS_BUCKETS
        )
        self._generator_errors = make.counter(
            "generator_errors",
            "Generations that ended early, by error.",
            error=(*GENERATOR_ERRORS, OTHER),
        )

    def started(self) -> None:
        """Count a chat in."""
        self._in_flight.inc()

    def finished(self, outcome: Outcome, *, seconds: float) -> None:
        """Count it out, by how it ended."""
        self._in_flight.dec()
        self._requests.labels(outcome).inc()
        self._seconds.observe(seconds, self._exemplar())

    def moderated(self, outcome: Outcome, *, seconds: float) -> None:
        """Count a request for verdicts alone."""
        self._moderations.labels(outcome).inc()
        self._moderation_seconds.observe(seconds, self._exemplar())

    def judged(self, phase: Phase, verdict: Verdict) -> None:
        """Count a verdict."""
        self._verdicts.labels(phase, _result_of(verdict)).inc()

    def decided(self, decision: Decision) -> None:
        """Count what became of a prompt or a choice, and why it was blocked."""
        if decision.kind is Kind.MODERATION:
            self._moderated_texts.labels(_result_of(decision.verdict)).inc()
            return
        self._decisions.labels(decision.phase, decision.action).inc()
        if decision.action is Action.UNJUDGED:
            self._fail_open.labels(decision.phase).inc()
        if decision.action is Action.BLOCKED:
            for category in _categories_of(decision):
                self._blocks.labels(decision.phase, category).inc()

    def guard_delayed(self, phase: Phase, *, seconds: float) -> None:
        """Note what the guard cost."""
        self._delay.labels(phase).observe(seconds, self._exemplar())

    def first_text_released(self, *, seconds: float) -> None:
        """Note how long a client waited for the first text."""
        self._first_text.observe(seconds, self._exemplar())

    def text_released(self, *, num_characters: int, held_seconds: float) -> None:
        """Count text that went to a client."""
        self._released.inc(num_characters)
        self._held.observe(held_seconds, self._exemplar())

    def text_withheld(self, *, num_characters: int) -> None:
        """Count text that never will."""
        self._withheld.inc(num_characters)

    def generator_began(self, *, seconds: float) -> None:
        """Note the generator's first event."""
        self._generator_began.observe(seconds, self._exemplar())

    def generator_ended(self, *, seconds: float, error: str) -> None:
        """Note the end of a generation."""
        self._generator_ended.observe(seconds, self._exemplar())
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

    def spans_ended(self, result: str, number: int) -> None:
        """Count spans that were `exported`, `failed` to be, or found the `queue_full`."""
        self._spans.labels(result).inc(number)

    def show_ready(self, *, ready: bool) -> None:
        """Publish whether new requests are welcome."""
        self._ready.set(ready)

    def show_draining(self) -> None:
        """Publish that the gateway will end."""
        self._draining.set(1)

    def show_dependency(self, dependency: Dependency, *, ready: bool) -> None:
        """Publish whether the guard or the generator was there just now."""
        self._dependencies.labels(dependency).set(ready)

    def show_request_limit(self, max_requests: int) -> None:
        """Publish how many requests may be answered at the same time."""
        self._max_in_flight.set(max_requests)

    def show_policies(self, policies: Iterable[GatewayPolicy]) -> None:
        """Publish how requests are guarded."""
        for policy in policies:
            facts = {
                "mode": policy.mode.value,
                "guard_policy_id": policy.guard_policy_id,
                "fail_open": ",".join(sorted(policy.fail_open)),
            }
            self._policies.labels(policy.id).info(facts)


def _result_of(verdict: Verdict | None) -> str:
    if verdict is None:
        return NO_VERDICT
    return "unsafe" if verdict.unsafe else "safe"


def _categories_of(decision: Decision) -> Sequence[str]:
    if decision.verdict is None:
        return (REFUSED if decision.reason == InvalidChat.__name__ else NO_VERDICT,)
    codes = [category.code for category in decision.verdict.categories]
    return [code if code in CATEGORIES else OTHER for code in codes] or [OTHER]
