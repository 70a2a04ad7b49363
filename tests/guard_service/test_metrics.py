"""What Prometheus reads."""

import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import grpc
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from guard_service.metrics import Metrics
from guard_service.metrics_port import metrics_server
from guard_service.moderation import (
    CategoryScore,
    ConfigurationError,
    Coverage,
    ModelInfo,
    Phase,
    Timings,
    Usage,
    Verdict,
)
from guard_service.observer import Drop
from guard_service.policy import default_policy

POLICY = default_policy("llama-guard-2")

SAFE = Verdict(
    unsafe=False,
    unsafe_probability=0.1,
    categories=(),
    first_category=(CategoryScore("S1", "Violent Crimes", 1.0),),
    phase=Phase.PROMPT,
    model=ModelInfo("fake", "0" * 40, "llama-guard-2"),
    policy_id="policy",
    policy_version="1",
    policy_digest="f" * 64,
    usage=Usage(10, 5, 3),
    timings=Timings(0.001, 0.002, 0.004, 0.008),
    coverage=Coverage(1.0, 1),
)
UNSAFE = replace(SAFE, unsafe=True, categories=SAFE.first_category, phase=Phase.RESPONSE)


class FixedQueue:
    """A queue that always looks the same."""

    num_queued_items = 3
    num_queued_tokens = 40
    oldest_age_seconds = 1.5
    seconds_since_progress = 2.5
    max_queue_items = 30
    max_batch_tokens = 512
    max_queue_tokens = 400


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(["S1", "S2", "S1"])
    metrics.show_model(SAFE.model)
    metrics.watch_queue(FixedQueue())
    metrics.show_policies([POLICY])
    metrics.watch_streams(lambda: 2, max_streams=20)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_verdict_is_counted_by_result_category_and_stage(metrics: Metrics):
    metrics.judged(SAFE)
    metrics.judged(UNSAFE)

    assert value(metrics, "guard_verdicts_total", phase="prompt", result="safe") == 1
    assert value(metrics, "guard_verdicts_total", phase="response", result="unsafe") == 1
    assert value(metrics, "guard_violations_total", category="S1") == 1
    assert value(metrics, "guard_violations_total", category="S2") == 0
    for stage, seconds in (
        ("tokenise", 0.001),
        ("queue", 0.002),
        ("inference", 0.004),
        ("total", 0.008),
    ):
        for phase in ("prompt", "response"):
            labels = {"stage": stage, "phase": phase}
            assert value(metrics, "guard_stage_seconds_sum", **labels) == seconds


def test_batches_drops_lookups_and_rpcs_are_counted(metrics: Metrics):
    metrics.batch_scored(num_items=3, num_tokens=300, seconds=0.2)
    metrics.dropped(Drop.SHED)
    metrics.memory_ran_out()
    metrics.prefix_looked_up(hit=True)
    metrics.rpc_finished("Moderate", grpc.StatusCode.OK)
    metrics.rpc_finished("Invented", grpc.StatusCode.UNIMPLEMENTED)

    assert value(metrics, "guard_batch_items_sum") == 3
    assert value(metrics, "guard_batch_tokens_sum") == 300
    assert value(metrics, "guard_batch_seconds_sum") == 0.2
    assert value(metrics, "guard_dropped_total", reason="shed") == 1
    assert value(metrics, "guard_out_of_memory_total") == 1
    assert value(metrics, "guard_prefix_cache_lookups_total", result="hit") == 1
    assert value(metrics, "guard_requests_total", method="Moderate", code="OK") == 1
    assert value(metrics, "guard_requests_total", method="other", code="UNIMPLEMENTED") == 1


def test_gauges_are_read_at_the_scrape(metrics: Metrics):
    metrics.show_ready(ready=True)

    assert value(metrics, "guard_ready") == 1
    assert value(metrics, "guard_queue_items") == 3
    assert value(metrics, "guard_queue_tokens") == 40
    assert value(metrics, "guard_queue_oldest_age_seconds") == 1.5
    assert value(metrics, "guard_queue_max_items") == 30
    assert value(metrics, "guard_queue_max_tokens") == 400
    assert value(metrics, "guard_seconds_since_progress") == 2.5
    assert value(metrics, "guard_max_batch_tokens") == 512
    assert value(metrics, "guard_open_streams") == 2
    assert value(metrics, "guard_max_open_streams") == 20
    assert (
        value(
            metrics,
            "guard_model_info",
            id="fake",
            revision="0" * 40,
            prompt_format="llama-guard-2",
        )
        == 1
    )


def test_what_judges_and_since_when_can_be_told_apart(metrics: Metrics):
    facts = {"id": POLICY.id, "version": POLICY.version, "digest": POLICY.digest}

    assert value(metrics, "guard_policy_info", **facts) == 1
    assert value(metrics, "guard_build_info", version=version("guard-service")) == 1
    assert time.time() - 86_400 < value(metrics, "process_start_time_seconds") <= time.time()


def test_nothing_appears_later_that_was_not_there_from_the_start(metrics: Metrics):
    before = series_of(metrics)
    metrics.judged(SAFE)
    metrics.judged(UNSAFE)
    metrics.show_draining()
    metrics.batch_scored(num_items=1, num_tokens=1, seconds=1)
    for reason in Drop:
        metrics.dropped(reason)
    for hit in (True, False):
        metrics.prefix_looked_up(hit=hit)
    for code in grpc.StatusCode:
        metrics.rpc_finished("ModerateStream", code)
        metrics.rpc_finished("Invented", code)

    assert series_of(metrics) == before


def series_of(metrics: Metrics) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {(s.name, frozenset(s.labels.items())) for family in families for s in family.samples}


def test_two_services_in_one_process_count_apart(metrics: Metrics):
    Metrics(["S1"]).judged(SAFE)

    assert value(metrics, "guard_verdicts_total", phase="prompt", result="safe") == 0


def test_metrics_are_served_until_the_context_ends(metrics: Metrics):
    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        address = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(address) as response:
            text = response.read().decode()

    assert "guard_verdicts_total" in text
    with pytest.raises(OSError):  # noqa: PT011 - any refusal will do
        urllib.request.urlopen(address)


def test_a_metrics_port_in_use_is_one_clear_line(metrics: Metrics):
    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        expected = rf"^cannot serve metrics on 127\.0\.0\.1:{port}: Address already in use$"
        with (
            pytest.raises(ConfigurationError, match=expected),
            metrics_server(metrics.registry, "127.0.0.1", port),
        ):
            pass


def test_promtool_finds_nothing_to_object_to(metrics: Metrics, needs_binary: Callable[[str], str]):
    finished = subprocess.run(
        [needs_binary("promtool"), "check", "metrics"],
        input=generate_latest(metrics.registry),
        capture_output=True,
        check=False,
    )

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
