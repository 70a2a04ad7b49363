"""Metrics count what happened, under labels that no caller can multiply."""

import subprocess

import httpx
import pytest
from grpc import StatusCode
from prometheus_client import generate_latest

from chat_gateway.metrics import Dependency, Metrics
from chat_gateway.observer import Action, Kind, Outcome
from chat_gateway.policy import GatewayPolicy, Mode
from guard_service.metrics_port import metrics_server
from guard_service.moderation import ConfigurationError, Phase
from tests.chat_gateway.decisions import TEXT, decision
from tests.chat_gateway.fakes import verdict


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def series(metrics: Metrics) -> set[str]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def use_everything(metrics: Metrics) -> None:
    metrics.started()
    metrics.finished(Outcome.ANSWERED, seconds=1.0)
    metrics.moderated(Outcome.ANSWERED, seconds=0.5)
    metrics.judged(Phase.RESPONSE, verdict(0.9))
    metrics.decided(decision(Action.BLOCKED, judged=verdict(0.9, code="my-own-code")))
    metrics.decided(decision(Action.BLOCKED, judged=None))
    metrics.decided(decision(Action.UNJUDGED, judged=None))
    metrics.decided(decision(Action.BLOCKED, judged=None, kind=Kind.MODERATION))
    metrics.guard_delayed(Phase.PROMPT, seconds=0.1)
    metrics.first_text_released(seconds=0.2)
    metrics.text_released(num_characters=40, held_seconds=0.1)
    metrics.text_withheld(num_characters=7)
    metrics.generator_began(seconds=0.1)
    metrics.generator_ended(seconds=1.0, error="SomethingNew")
    metrics.http_answered("/v1/secret/path", 404)
    metrics.rpc_finished("Shout", StatusCode.UNIMPLEMENTED)
    metrics.audit_record("dropped")
    metrics.audit_write_failed()
    metrics.show_ready(ready=True)
    metrics.show_draining()
    metrics.show_dependency(Dependency.GUARD, ready=True)
    metrics.show_request_limit(256)


def test_every_series_is_there_before_anything_happened():
    before = series(metrics := Metrics())

    use_everything(metrics)

    assert series(metrics) == before


def test_a_block_counts_its_phase_and_category():
    metrics = Metrics()

    metrics.decided(decision(Action.BLOCKED, judged=verdict(0.9, code="S9")))
    for reason in ("NotReady", "InvalidChat"):
        metrics.decided(decision(Action.BLOCKED, phase=Phase.PROMPT, judged=None, reason=reason))

    assert value(metrics, "gateway_blocks_total", phase="response", category="S9") == 1
    assert value(metrics, "gateway_blocks_total", phase="prompt", category="none") == 1
    assert value(metrics, "gateway_blocks_total", phase="prompt", category="refused") == 1
    assert value(metrics, "gateway_decisions_total", phase="response", action="blocked") == 1


def test_what_passed_unjudged_is_counted():
    metrics = Metrics()

    metrics.decided(decision(Action.UNJUDGED, phase=Phase.PROMPT, judged=None))

    assert value(metrics, "gateway_fail_open_total", phase="prompt") == 1


def test_a_request_is_in_flight_until_it_ends():
    metrics = Metrics()

    metrics.started()
    during = value(metrics, "gateway_requests_in_flight")
    metrics.finished(Outcome.OUT_OF_TIME, seconds=2.0)

    assert (during, value(metrics, "gateway_requests_in_flight")) == (1, 0)
    assert value(metrics, "gateway_requests_total", outcome="out_of_time") == 1


def test_a_policy_that_may_pass_unjudged_is_told_apart():
    metrics = Metrics()

    metrics.show_policies(
        [
            GatewayPolicy(id="careful"),
            GatewayPolicy(id="open", mode=Mode.BUFFER, fail_open=frozenset(Phase)),
        ]
    )

    names = ("id", "mode", "guard_policy_id", "fail_open")
    for facts in (("careful", "strict", "", ""), ("open", "buffer", "", "prompt,response")):
        labels = dict(zip(names, facts, strict=True))
        assert value(metrics, "gateway_policy_info", **labels) == 1


def test_no_text_reaches_the_exposition():
    metrics = Metrics()

    use_everything(metrics)

    exposition = generate_latest(metrics.registry).decode()
    assert TEXT not in exposition
    assert "my-own-code" not in exposition


def test_the_exposition_can_be_scraped_and_its_port_is_free_again_afterwards():
    metrics = Metrics()
    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        scraped = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        with (
            pytest.raises(ConfigurationError, match=str(port)),
            metrics_server(metrics.registry, "127.0.0.1", port),
        ):
            pass

    assert "gateway_first_text_seconds_bucket" in scraped
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")


def test_promtool_finds_nothing_to_improve(needs_binary):
    metrics = Metrics()
    use_everything(metrics)

    checked = subprocess.run(
        [needs_binary("promtool"), "check", "metrics"],
        input=generate_latest(metrics.registry),
        capture_output=True,
        check=False,
    )

    assert (checked.stdout + checked.stderr).decode() == ""
