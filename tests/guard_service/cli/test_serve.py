"""`guard-service serve`: a server from its first log line to its exit status."""

import signal
import socket
import urllib.request

import pytest

from tests.command import logged, run, serving
from tests.probing import probing


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
    assert "demonstration-grade" in unsafe.output
    assert 'guard_verdicts_total{phase="prompt",result="unsafe"}' in metrics


@pytest.mark.embedded
def test_a_signal_while_the_model_loads_ends_the_process_at_once():
    with serving() as process:
        logged(process, "starting")
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) == 128 + signal.SIGTERM


@pytest.mark.embedded
def test_a_server_is_probed_while_it_loads_serves_and_drains():
    with serving("--health-port", "0", "--lame-duck-seconds", "600") as process:
        port = logged(process, "starting")["health_port"]
        with probing(port) as prober:
            loading = prober.all()
            logged(process, "model loaded")  # so it was not before
            logged(process, "ready")
            ready = prober.all()
            process.send_signal(signal.SIGTERM)
            assert prober.hears("ready", serving=False)
            draining = prober.all()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)

    assert loading == {"live": True, "ready": False, "": False}
    assert ready == {"live": True, "ready": True, "": True}
    assert draining == {"live": True, "ready": False, "": False}


def test_a_metrics_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run("serve", "--port", "0", "--metrics-port", str(port))

    assert finished.status == 78
    assert finished.one_line.startswith(f"cannot serve metrics on 127.0.0.1:{port}")


@pytest.mark.parametrize("flag", ["--port", "--health-port"])
def test_a_port_in_use_is_one_line_before_any_model_is_loaded(flag: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run("serve", "--port", "0", "--metrics-port", "none", flag, str(port))

    assert finished.status == 78
    assert finished.one_line == f"cannot listen on 127.0.0.1:{port}: Address already in use"
