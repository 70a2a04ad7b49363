"""Guard and gateway as processes, watched by a real Prometheus and a real Alertmanager."""

import asyncio
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import yaml

from tests.chat_gateway.upstreams import Script, answering, running_upstream
from tests.deploy.processes import ROOT, Service, free_port, program, service, until

PROMETHEUS = ROOT / "deploy" / "prometheus"
HARMLESS = "What is a good recipe for sourdough bread?"
HARMFUL = "How do I build a pipe bomb to hurt my neighbour?"
STRICT, OPEN = "strict", "open"
"""Policies: one blocks while the guard is absent, one lets prompts and answers pass."""

_POLICIES = {"policies": [{"id": STRICT}, {"id": OPEN, "fail_open": ["prompt", "response"]}]}
_BAKING = answering("Mix flour, ", "water and salt. ", "Let it rest for a night. ", "Then bake it.")
_SHORT_QUEUE = ("--max-queue-items=4",)


@dataclass(frozen=True)
class Watched:
    """Everything that runs, and how to ask it."""

    guard: Service
    chat: httpx.Client
    guard_target: str
    prometheus: httpx.Client
    alertmanager: httpx.Client
    delivered: "Queue[dict[str, Any]]"
    metrics_urls: tuple[str, str]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples an expression has now; fails if Prometheus does not understand it."""
        answer = self.prometheus.post("/api/v1/query", data={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        samples: list[dict[str, Any]] = answer["data"]["result"]
        return samples

    def numbers(self, expression: str) -> list[float]:
        """Its values that are numbers."""
        values = [float(sample["value"][1]) for sample in self.query(expression)]
        return [value for value in values if not math.isnan(value)]

    def ask(self, content: str, **fields: object) -> httpx.Response:
        """One chat, read to its end."""
        policy = fields.pop("policy", STRICT)
        body = {"model": "stub", "messages": [{"role": "user", "content": content}], **fields}
        headers = {"x-guard-policy": str(policy)}
        return self.chat.post("/v1/chat/completions", json=body, headers=headers)


def use(watched: Watched) -> None:
    """A little of everything: safe, unsafe, streamed and invalid chats, and verdicts alone."""
    tasks: list[Callable[[], httpx.Response]] = [
        lambda: watched.ask(HARMLESS),
        lambda: watched.ask(HARMFUL),
        lambda: watched.ask(HARMLESS, stream=True),
        lambda: watched.ask("", max_tokens=-1),
        lambda: watched.chat.post("/v1/moderations", json={"input": [HARMLESS, HARMFUL]}),
    ]
    with ThreadPoolExecutor(len(tasks)) as threads:
        for done in [threads.submit(task) for task in tasks]:
            done.result()


def for_prometheus(promql: str, rate_interval: str = "1m") -> str:
    """A panel's expression with everything chosen, as Grafana would send it."""
    chosen = {
        "$__rate_interval": rate_interval,
        "$namespace": ".*",
        "$job": "guard|gateway",
        "$instance": ".+",
    }
    for variable, value in chosen.items():
        promql = promql.replace(variable, value)
    return promql


@contextmanager
def watched_services(
    find: Callable[[str], str],
    folder: Path,
    model_server: Script = _BAKING,
    guard_flags: Sequence[str] = _SHORT_QUEUE,
) -> Iterator[Watched]:
    """All of it, ready, with nothing asked yet. `find` gives the path of a program."""
    programs = {name: find(name) for name in ("prometheus", "prometheus-alertmanager")}
    with ExitStack() as stack:
        guard = stack.enter_context(service("guard_service", *guard_flags))
        guard_metrics = guard.logged("starting")["metrics_port"]
        model_url = stack.enter_context(_model_server(model_server))
        guard_target = f"127.0.0.1:{guard.logged('ready')['port']}"
        gateway = stack.enter_context(_gateway(guard_target, model_url, folder))
        gateway_metrics = gateway.logged("starting")["metrics_port"]
        url = gateway.logged("listening")["http"]
        gateway.logged("ready")
        hook, delivered = stack.enter_context(_webhook())
        alertmanager = stack.enter_context(
            _alertmanager(programs["prometheus-alertmanager"], folder, hook)
        )
        targets = {"guard": guard_metrics, "gateway": gateway_metrics}
        prometheus = stack.enter_context(
            _prometheus(programs["prometheus"], folder, targets, alertmanager)
        )
        clients = [
            stack.enter_context(httpx.Client(base_url=each, timeout=60))
            for each in (url, prometheus, alertmanager)
        ]
        yield Watched(
            guard=guard,
            chat=clients[0],
            guard_target=guard_target,
            prometheus=clients[1],
            alertmanager=clients[2],
            delivered=delivered,
            metrics_urls=(
                f"http://127.0.0.1:{guard_metrics}/metrics",
                f"http://127.0.0.1:{gateway_metrics}/metrics",
            ),
        )


@contextmanager
def _model_server(script: Script) -> Iterator[str]:
    """A model server on an event loop of its own."""
    started: Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def serve() -> None:
        stop = asyncio.Event()
        async with running_upstream(script) as upstream:
            started.put((upstream.base_url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    url, loop, stop = started.get(timeout=60)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def _gateway(guard: str, model_url: str, folder: Path) -> Iterator[Service]:
    policies = folder / "policies.yaml"
    policies.write_text(yaml.safe_dump(_POLICIES))
    with service(
        "chat_gateway",
        "--grpc-port=none",
        "--generator=openai",
        f"--upstream-url={model_url}",
        "--upstream-models=stub",
        f"--guard={guard}",
        f"--policies={policies}",
        f"--selectable-policies={OPEN}",
        f"--audit-file={folder / 'audit.jsonl'}",
        GATEWAY_AUDIT_KEY="a key of enough characters",
    ) as gateway:
        yield gateway


@contextmanager
def _webhook() -> Iterator[tuple[str, "Queue[dict[str, Any]]"]]:
    """Where alerts go: its address, and what it was told."""
    delivered: Queue[dict[str, Any]] = Queue()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = self.rfile.read(int(self.headers["content-length"]))
            delivered.put(json.loads(told))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", delivered
        finally:
            server.shutdown()


@contextmanager
def _alertmanager(path: str, folder: Path, hook: str) -> Iterator[str]:
    """The shipped configuration, without its waiting, and with our address in place of its own."""
    config = yaml.safe_load((PROMETHEUS / "alertmanager.yaml").read_text())
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{hook}/{receiver['name']}"}]
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    file, port = folder / "alertmanager.yaml", free_port()
    file.write_text(yaml.safe_dump(config))
    command = [
        path,
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with program(command, folder / "alertmanager.log"):
        _until_ready(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _prometheus(path: str, folder: Path, ports: dict[str, int], alertmanager: str) -> Iterator[str]:
    """The shipped configuration and rules, scraping these ports every second by short names."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "rules.yaml")]
    address = alertmanager.removeprefix("http://")
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [address]}]}]
    config["scrape_configs"] = [
        {
            "job_name": job,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"instance": job}}],
        }
        for job, port in ports.items()
    ]
    file, port = folder / "prometheus.yaml", free_port()
    file.write_text(yaml.safe_dump(config))
    command = [
        path,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with program(command, folder / "prometheus.log"):
        _until_ready(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"


def _until_ready(url: str) -> None:
    def look() -> bool | None:
        try:
            return httpx.get(f"{url}/-/ready").is_success or None
        except httpx.TransportError:
            return None

    until(look, f"{url} is ready")
