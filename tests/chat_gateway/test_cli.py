"""The command line: its help, its one-line errors, and its end-to-end demonstration."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from chat_gateway.chat import GatewayError
from chat_gateway.cli import app
from chat_gateway.cli.gateway_client import Ended, GatewayClient, Opinion, Said
from chat_gateway.cli.terminal import show_answer
from chat_gateway.settings import GatewaySettings
from guard_service.configuration.reference import references
from guard_service.health_port import HealthPort

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chat_gateway", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def opinion(phase: str, probability: float | None, *, blocked: bool = False) -> Opinion:
    unsafe = probability is not None and probability >= 0.5
    return Opinion(
        phase=phase,
        final=True,
        blocked=blocked,
        unsafe=unsafe,
        unsafe_probability=probability,
        categories=("S9 Indiscriminate Weapons",) if unsafe else (),
        elapsed_ms=12.0,
    )


def shown(*events: Said | Opinion | Ended) -> tuple[str, str | None]:
    console = Console(record=True, width=100, file=StringIO())
    answer = show_answer(console, events)
    return console.export_text(), answer


def test_every_setting_but_secrets_is_an_option_of_serve():
    text = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "300"}).output

    for each in references(GatewaySettings):
        assert (each.flag in text) is not each.is_secret, each.name


def test_a_wrong_setting_is_one_line_and_status_78():
    finished = run("serve", "--port", "eighty")

    assert finished.returncode == 78
    assert finished.stderr.strip().splitlines() == [
        "chat-gateway: --port: 'eighty' is not allowed; allowed: 0..65535"
    ]


@pytest.mark.parametrize("name", ["--port", "--grpc-port"])
def test_a_port_in_use_is_found_before_the_model_is_loaded(name: str):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        others = {"--port": "--grpc-port", "--grpc-port": "--port"}
        finished = run("serve", name, port, others[name], "0", "--metrics-port", "none")

    assert finished.returncode == 78
    assert finished.stderr.strip() == (
        f"chat-gateway: cannot listen on 127.0.0.1:{port}: Address already in use"
    )


def test_a_gateway_that_is_not_there_is_one_line_and_status_1():
    finished = run("chat", "Hello", "--url", "http://127.0.0.1:1")

    assert finished.returncode == 1
    assert len(finished.stderr.strip().splitlines()) == 1
    assert "no gateway answers" in finished.stderr


def test_a_gateways_health_is_asked_where_its_settings_say():
    with HealthPort("127.0.0.1", 0, stall_seconds=600) as port:
        here = {"GATEWAY_HEALTH_PORT": str(port.port)}
        loading = run("health", **here)
        port.report(live=True, ready=True)
        ready = run("health", **here)
    gone = run("health", **here)
    nowhere = run("health", GATEWAY_GRPC_PORT="none")

    assert (loading.returncode, ready.returncode, gone.returncode) == (1, 0, 1)
    assert "says of 'ready': NOT_SERVING" in loading.stderr
    assert "does not answer health" in gone.stderr
    assert nowhere.returncode == 2
    assert "--target" in nowhere.stderr


def test_an_answer_is_shown_between_the_verdicts_on_prompt_and_answer():
    text, answer = shown(
        opinion("prompt", 0.01), Said("Hello"), opinion("response", 0.02), Said("!"), Ended("stop")
    )

    lines = [line.strip() for line in text.splitlines()]
    assert lines[0].startswith("prompt: safe")
    assert lines[1] == "Hello!"
    assert lines[2].startswith("response: safe")
    assert answer == "Hello!"


def test_a_block_says_why_and_keeps_the_turn_out_of_the_conversation():
    text, answer = shown(
        opinion("prompt", 0.9),
        opinion("prompt", 0.9, blocked=True),
        Said("I can't help with that."),
        Ended("content_filter"),
    )

    assert text.count("prompt:") == 1
    assert "blocked (S9 Indiscriminate Weapons), P(unsafe) 0.900" in text
    assert text.endswith("\n")
    assert answer is None


def test_a_text_that_could_not_be_judged_is_shown_as_such():
    text, _ = shown(opinion("prompt", None), Said("Hello"), Ended("length"))

    assert "could not judge" in text
    assert "longest length" in text


def test_a_models_answer_cannot_move_the_cursor_or_use_markup():
    text, _ = shown(Said("\x1b[2J[red]plain[/red]\x07"), Ended("stop"))

    assert text == "[2J[red]plain[/red]\n"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error": {"message": "model: unknown"}}', "status 400: model: unknown"),
        (502, b"<html>", "no reason was given"),
        (200, b"data: {}\n\n", "does not speak as a gateway does"),
        (200, b"data: [1]\n\n", "does not speak as a gateway does"),
        (200, b'data: {"error": {"message": "it broke"}}\n\n', "it broke"),
    ],
)
def test_a_server_in_trouble_is_one_sentence(status: int, body: bytes, message: str):
    with answering(status, body) as url, httpx.Client() as http:
        client = GatewayClient(url, model="any", http=http)
        with pytest.raises(GatewayError, match=message):
            list(client.chat([{"role": "user", "content": "Hello"}]))


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


DEMO_PORTS = ("--port", "--grpc-port", "--guard-port")


def demo(*options: str) -> list[str]:
    ports = [word for name in DEMO_PORTS for word in (name, str(free_port()))]
    return ["demo", *ports, *options]


QUIET = {"GUARD_METRICS_PORT": "none", "GATEWAY_METRICS_PORT": "none"}


@pytest.mark.embedded
def test_the_demo_answers_one_prompt_and_blocks_another():
    finished = run(*demo("--once"), **QUIET)

    assert finished.returncode == 0, finished.stderr
    allowed, blocked = finished.stdout.split("A blocked prompt")
    assert "prompt: safe" in allowed
    assert "response: safe" in allowed
    assert "prompt: blocked" in blocked
    assert "I can't help with that." in blocked


@pytest.mark.embedded
def test_ctrl_c_stops_guard_and_gateway_cleanly():
    process = subprocess.Popen(
        [sys.executable, "-m", "chat_gateway", *demo()],
        cwd=ROOT,
        env=os.environ | QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C stops both" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()

    assert process.returncode == 0
    assert "Both are stopped." in rest
    assert "Traceback" not in rest
