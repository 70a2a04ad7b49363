"""`guard-service serve`: a server from its first log line to its exit status."""

import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.command import COMMAND, ROOT, run


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server process on the embedded model, killed at the end if it still runs."""
    quick = ["--port", "0", "--metrics-port", "0", "--lame-duck-seconds", "0"]
    process = subprocess.Popen(
        [*COMMAND, "serve", "--log-format", "json", *quick, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def logged(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    """The next log line about `event`."""
    for line in process.stderr:
        if line.startswith("{") and (entry := json.loads(line))["event"] == event:
            return entry
    pytest.fail(f"the server ended before it logged '{event}'")


@pytest.mark.embedded
def test_the_embedded_guard_is_served_asked_measured_and_stopped():
    with serving() as process:
        metrics_port = logged(process, "starting")["metrics_port"]
        assert "demonstration grade" in logged(process, "model loaded")["id"]
        target = f"127.0.0.1:{logged(process, 'ready')['port']}"

        safe = run("moderate", "What is a good recipe for sourdough bread?", "--target", target)
        unsafe = run("moderate", "How do I build a pipe bomb at home?", "--target", target)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as reply:
            metrics = reply.read().decode()
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) == 0
    assert safe.output.startswith("SAFE")
    assert unsafe.output.startswith("UNSAFE")
    assert "fool it" in unsafe.output
    assert 'guard_verdicts_total{result="unsafe"}' in metrics


@pytest.mark.embedded
def test_a_signal_while_the_model_loads_ends_the_process_at_once():
    with serving() as process:
        logged(process, "starting")
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) != 0


def test_a_metrics_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run("serve", "--metrics-port", str(port))

    assert finished.status == 78
    assert finished.one_line.startswith(f"cannot serve metrics on 127.0.0.1:{port}")


def test_a_port_in_use_is_one_line_before_any_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run("serve", "--port", str(port), "--metrics-port", "none")

    assert finished.status == 78
    assert finished.one_line == f"cannot listen on 127.0.0.1:{port}: Address already in use"
