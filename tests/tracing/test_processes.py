"""The real services in processes of their own: traces, log lines, audit records and exemplars."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.chat_gateway.upstreams import running_upstream
from tests.command import ROOT, logged
from tests.tracing.collector import Collector
from tests.tracing.services import CHAT, MODERATE, STORY, STREAM, Caller, saying

EXEMPLAR = re.compile(r'^(\w+)_bucket\S* \S+ # {trace_id="(\w+)"}', re.MULTILINE)
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
QUICK = ("--port", "0", "--metrics-port", "0", "--lame-duck-seconds", "0", "--log-format", "json")
POST = f"POST {CHAT}"
CHAT_HISTOGRAMS = (
    "gateway_request_seconds",
    "gateway_first_text_seconds",
    "gateway_guard_delay_seconds",
    "gateway_held_seconds",
    "gateway_generator_seconds",
    "gateway_generator_first_event_seconds",
)


@contextmanager
def started(module: str, *flags: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, "serve", *QUICK, *flags],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **variables},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def exemplars(port: object) -> dict[str, set[str]]:
    """Trace ids of the exemplars, by the name of their histogram, as Prometheus would read them."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": OPEN_METRICS}
    )
    with urllib.request.urlopen(request) as reply:
        text = reply.read().decode()
    found: dict[str, set[str]] = {}
    for name, trace_id in EXEMPLAR.findall(text):
        found.setdefault(name, set()).add(trace_id)
    return found


def lines_until_end(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    process.terminate()
    lines = [json.loads(line) for line in process.stderr if line.startswith("{")]
    assert process.wait(timeout=60) == 0
    return lines


def records_in(audit: Path) -> list[dict[str, object]]:
    return [json.loads(each) for each in audit.read_text(encoding="utf-8").splitlines()]


@dataclass
class Told:
    """What one chat left behind: log lines, exemplars and audit records."""

    response: httpx.Response
    gateway_lines: list[dict[str, object]]
    guard_lines: list[dict[str, object]]
    gateway_exemplars: dict[str, set[str]]
    guard_exemplars: dict[str, set[str]]
    records: list[dict[str, object]]


async def told_of_a_chat(endpoint: str, audit: Path, caller: Caller) -> Told:
    """Have the real services, each in a process, answer one chat."""
    tracing = ("--otlp-endpoint", endpoint)
    async with running_upstream(saying(STORY)) as upstream:
        with started("guard_service", *tracing) as guard:
            guard_port = logged(guard, "starting")["metrics_port"]
            target = f"127.0.0.1:{logged(guard, 'ready')['port']}"
            with started(
                "chat_gateway",
                *tracing,
                *("--guard", target, "--grpc-port", "none", "--audit-file", str(audit)),
                *("--generator", "openai", "--upstream-url", upstream.base_url),
                *("--upstream-models", "stub"),
                GATEWAY_AUDIT_KEY="0123456789abcdef",
            ) as gateway:
                port = logged(gateway, "starting")["metrics_port"]
                url = logged(gateway, "listening")["http"]
                messages = [{"role": "user", "content": "What is bread made of?"}]
                async with httpx.AsyncClient(base_url=str(url), timeout=120) as http:
                    response = await http.post(
                        CHAT,
                        json={"model": "stub", "messages": messages},
                        headers={"traceparent": caller.traceparent},
                    )
                shown, guard_shown = exemplars(port), exemplars(guard_port)
                lines = lines_until_end(gateway)
            guard_lines = lines_until_end(guard)
    return Told(response, lines, guard_lines, shown, guard_shown, records_in(audit))


@pytest.mark.embedded
async def test_a_trace_leads_through_spans_logs_records_and_metrics(
    collector: Collector, tmp_path: Path
):
    caller = Caller()
    told = await told_of_a_chat(collector.endpoint, tmp_path / "audit.jsonl", caller)
    trace = await collector.trace(caller.trace_id, POST, *(MODERATE, STREAM) * 2)

    assert told.response.status_code == 200
    assert trace.path_to(trace.one(STREAM, "server")) == [POST, "chat", STREAM, STREAM]
    assert told.gateway_exemplars == {name: {caller.trace_id} for name in CHAT_HISTOGRAMS}
    assert told.guard_exemplars == {"guard_stage_seconds": {caller.trace_id}}
    [line] = [each for each in told.gateway_lines if each["event"] == "http"]
    assert line["trace_id"] == caller.trace_id
    assert line["span_id"] == trace.one(POST).span_id
    assert line["request_id"] == told.response.headers["x-request-id"]
    judged = [each for each in told.guard_lines if str(each.get("method")).startswith("Moderate")]
    assert {each["trace_id"] for each in judged} == {caller.trace_id}
    assert {each["request_id"] for each in judged} == {line["request_id"]}
    others = [each for each in told.guard_lines if each.get("method") == "GetInfo"]
    assert others
    assert not any("trace_id" in each for each in others)
    assert [each["trace_id"] for each in told.records] == [caller.trace_id] * 2


def run_without(library: str, module: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """The command where this library is not installed."""
    program = (
        f"import sys; sys.modules['{library}'] = None; sys.argv = ['x', 'serve', *sys.argv[1:]]; "
        f"from {module}.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("module", "name"), [("guard_service", "guard-service"), ("chat_gateway", "chat-gateway")]
)
def test_tracing_without_its_extra_is_one_line_and_status_78(module: str, name: str):
    finished = run_without("opentelemetry.sdk", module, "--otlp-endpoint", "localhost:4317")

    assert finished.returncode == 78
    [line] = finished.stderr.strip().splitlines()
    assert line.startswith(f"{name}: opentelemetry.sdk")
    assert "guard-service[tracing]" in line


@pytest.mark.parametrize("module", ["guard_service", "chat_gateway"])
def test_switched_off_tracing_loads_no_sdk(module: str):
    program = (
        f"import sys; from {module}.tracing.switch import read_tracing; "
        f"from {module}.settings import load{', ServeSettings' * (module == 'guard_service')}; "
        f"read_tracing(load({'ServeSettings' * (module == 'guard_service')})); "
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )

    finished = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT)

    assert finished.returncode == 0


def test_variables_of_the_sdk_may_add_but_not_redirect(collector: Collector):
    program = f"""
from guard_service.tracing.collector import Collector
collector = Collector("{collector.endpoint}", service="guard-service", sample_ratio=1.0)
with collector.exporting(print):
    collector.tracer.start_span("here").end()
"""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_INSECURE": "false",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SERVICE_NAME": "another",
        "OTEL_BSP_MAX_QUEUE_SIZE": "1",
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "0",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret",
        "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=guard-0,service.name=another",
    }
    subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=ROOT, env={**os.environ, **variables}
    )

    collector.wait(lambda: bool(collector.spans))
    [span] = collector.spans
    assert (span.name, span.service) == ("here", "guard-service")
    assert span.resource["k8s.pod.name"] == "guard-0"
    assert collector.headers["x-key"] == "secret"
