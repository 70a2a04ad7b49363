"""What the gateway tells probes on a port of its own, whoever is up there and whatever it does."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guard_service.health_port import HealthPort
from guard_service.moderation import NotReady
from guard_service.service_info import ServiceInfo
from tests.chat_gateway.fakes import FakeGuard
from tests.chat_gateway.test_serving import fronted, until_ready
from tests.probing import Prober, probing

LOADING = {"live": True, "ready": False, "": False}
WELCOMING = {"live": True, "ready": True, "": True}
STUCK = {"live": False, "ready": False, "": False}


class PassingGuard(FakeGuard):
    """A guard that is there until it is gone."""

    is_gone = False

    async def info(self, *, timeout_seconds: float = 30.0) -> ServiceInfo:
        if self.is_gone:
            raise NotReady("gone")
        return await super().info(timeout_seconds=timeout_seconds)


@contextmanager
def opened(*, stall_seconds: float = 600.0) -> Iterator[tuple[HealthPort, Prober]]:
    with (
        HealthPort("127.0.0.1", 0, stall_seconds=stall_seconds) as port,
        probing(port.port) as prober,
    ):
        yield port, prober


# The blocking prober holds up the event loop it is called on: what answers it needs no loop.


async def test_a_gateway_is_ready_with_its_guard_and_lives_without_it():
    guard = PassingGuard()
    with opened() as (port, prober):
        async with fronted(guard, port) as (_, _, metrics):
            await until_ready(metrics)
            with_guard = prober.all()
            guard.is_gone = True
            heard = await asyncio.to_thread(prober.hears, "ready", serving=False)
            without_guard = prober.all()

    assert with_guard == WELCOMING
    assert heard
    assert without_guard == LOADING


async def test_a_draining_gateway_says_so_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chat_gateway.readiness.BEAT_SECONDS", 600)
    with opened() as (port, prober):
        async with fronted(FakeGuard(), port, lame_duck_seconds=600) as (front, _, metrics):
            await until_ready(metrics)
            assert prober.all() == WELCOMING
            draining = asyncio.create_task(front.drain())
            await asyncio.sleep(0)  # it begins
            said = prober.all()
            draining.cancel()

    assert said == LOADING


async def test_an_event_loop_that_is_stuck_for_long_ends_liveness_until_it_turns_again():
    with opened(stall_seconds=3) as (port, prober):
        async with fronted(FakeGuard(), port) as (_, _, metrics):
            await until_ready(metrics)
            assert prober.hears("live", serving=False)
            assert prober.all() == STUCK
            assert await asyncio.to_thread(prober.hears, "live", serving=True)


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A gateway process before a guard that is not there."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "chat_gateway", "serve", "--log-format", "json"),
            *("--port", "0", "--grpc-port", "0", "--metrics-port", "none", "--health-port", "0"),
            *("--guard", "127.0.0.1:1", "--lame-duck-seconds", "600", *arguments),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def logged(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    for line in process.stderr:
        if line.startswith("{") and (entry := json.loads(line))["event"] == event:
            return entry
    pytest.fail(f"the gateway ended before it logged '{event}'")


def test_a_process_without_guard_and_upstream_lives_and_is_not_ready():
    upstream = ("--upstream-url", "http://127.0.0.1:1/v1", "--upstream-models", "none")
    with serving("--generator", "openai", *upstream) as process:
        port = logged(process, "starting")["health_port"]
        logged(process, "not ready")
        with probing(port) as prober:
            said = prober.all()
        process.send_signal(signal.SIGTERM)
        logged(process, "draining")

    assert said == LOADING


@pytest.mark.embedded
def test_a_process_is_live_while_its_model_loads():
    with serving() as process:
        with probing(logged(process, "starting")["health_port"]) as prober:
            said = prober.all()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM  # so it was loading still

    assert said == LOADING
