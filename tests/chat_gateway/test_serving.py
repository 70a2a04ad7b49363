"""The whole gateway over real sockets: HTTP, gRPC and metrics, ready, draining, gone."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from chat_gateway.composition import Gateway, read_policies
from chat_gateway.http_door import HttpDoor
from chat_gateway.metrics import Metrics
from chat_gateway.observers import Observers
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.places import Places
from chat_gateway.serving import EXIT_DRAINED, EXIT_UNFINISHED, Front, running, serve
from chat_gateway.settings import GatewaySettings, load
from chat_gateway.text_moderation import TextModeration
from chat_gateway.token_limit import TokenLimit
from chat_gateway.v1.chat_pb2_grpc import ChatServiceStub
from guard_service.health_port import HealthPort
from guard_service.moderation import ConfigurationError, NotReady
from guard_service.service_info import ServiceInfo
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, answer
from tests.chat_gateway.grpc_server.serving import asking, until

PATIENT = httpx.Timeout(60.0)
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}]}


def settings(**flags: object) -> GatewaySettings:
    return load({"port": 0, "grpc_port": 0, "lame_duck_seconds": 0, **flags})


def gateway_on(
    guard: FakeGuard, metrics: Metrics, *, max_tokens: int = 4096, num_places: int = 256
) -> Gateway:
    generator = TokenLimit(ScriptedGenerator(answer("All is fine.")), max_tokens)
    observer = Observers([metrics])
    return Gateway(
        pipeline=ChatPipeline(guard, generator, observer),
        moderation=TextModeration(guard, observer),
        places=Places(num_places),
        generator=generator,
        guard=guard,
        policies=read_policies(load()),
    )


@asynccontextmanager
async def fronted(
    guard: FakeGuard, health_port: HealthPort | None = None, **flags: object
) -> AsyncIterator[tuple[Front, httpx.AsyncClient, Metrics]]:
    metrics = Metrics()
    gateway, here = gateway_on(guard, metrics, max_tokens=64), settings(**flags)
    async with (
        running(gateway, here, metrics, health_port) as front,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.http_port}", timeout=PATIENT) as http,
    ):
        yield front, http, metrics


async def post(http: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await http.post("/v1/chat/completions", json=CHAT | fields)


async def until_asked(guard: FakeGuard) -> None:
    while not guard.calls:  # noqa: ASYNC110 - the fake has no event to wait for
        await asyncio.sleep(0.01)


async def test_one_process_answers_http_and_counts_it():
    async with fronted(FakeGuard()) as (_, http, metrics):
        response = await post(http)

    assert response.json()["choices"][0]["message"]["content"] == "All is fine."
    labels = {"path": "/v1/chat/completions", "status": "2xx"}
    assert metrics.registry.get_sample_value("gateway_http_responses_total", labels) == 1
    assert metrics.registry.get_sample_value("gateway_requests_total", {"outcome": "answered"}) == 1


async def test_an_unknown_path_is_counted_under_one_name():
    async with fronted(FakeGuard()) as (_, http, metrics):
        await http.get("/some/users/words")

    labels = {"path": "other", "status": "4xx"}
    assert metrics.registry.get_sample_value("gateway_http_responses_total", labels) == 1


async def test_the_metrics_say_what_an_answer_takes_and_how_many_there_may_be():
    async with fronted(FakeGuard(), max_concurrent_requests=12) as (front, _, metrics):
        await until_ready(metrics)
        needed = {
            name: metrics.registry.get_sample_value(
                "gateway_dependency_ready", {"dependency": name}
            )
            for name in ("guard", "generator")
        }
        before = metrics.registry.get_sample_value("gateway_draining")
        await front.drain()

    assert needed == {"guard": 1, "generator": 1}
    assert metrics.registry.get_sample_value("gateway_max_requests_in_flight") == 12
    assert (before, metrics.registry.get_sample_value("gateway_draining")) == (0, 1)


class AbsentGuard(FakeGuard):
    """A guard that does not answer."""

    async def info(self, *, timeout_seconds: float = 30.0) -> ServiceInfo:  # noqa: ARG002
        raise NotReady("there is no guard")


async def test_the_metrics_tell_a_missing_guard_from_a_missing_generator():
    async with fronted(AbsentGuard()) as (front, _, metrics):
        await front._readiness._can_answer()

    for name, expected in (("guard", 0), ("generator", 1)):
        labels = {"dependency": name}
        assert metrics.registry.get_sample_value("gateway_dependency_ready", labels) == expected


async def test_more_tokens_than_allowed_are_refused_with_the_limit():
    async with fronted(FakeGuard()) as (_, http, _):
        response = await post(http, max_tokens=65)

    assert response.status_code == 400
    assert "at most 64" in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "max_tokens"


async def test_both_doors_share_one_limit():
    guard, metrics = FakeGuard(), Metrics()
    guard.hold()
    gateway = gateway_on(guard, metrics, num_places=2)
    async with (
        running(gateway, settings(), metrics) as front,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.http_port}", timeout=PATIENT) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{front.grpc.port}") as channel,
    ):
        stub = ChatServiceStub(channel)
        over_http = asyncio.create_task(post(http))
        over_grpc = asyncio.ensure_future(stub.Chat(asking()))
        await until(lambda: len(guard.calls) == 2)
        refused = await post(http)
        moderation = await http.post("/v1/moderations", json={"input": "Hello"})
        with pytest.raises(grpc.aio.AioRpcError) as turned_away:
            await stub.Chat(asking())
        guard.release()
        first, second = await over_http, await over_grpc
        later = await post(http)

    assert gateway.places.num_taken == 0
    assert (refused.status_code, moderation.status_code) == (429, 429)
    assert refused.headers["retry-after"] == "1"
    assert turned_away.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_concurrent_requests" in (turned_away.value.details() or "")
    assert (first.status_code, later.status_code) == (200, 200)
    assert second.choices[0].content == "All is fine."


async def test_a_draining_gateway_finishes_what_it_accepted_and_refuses_the_rest():
    guard = FakeGuard()
    guard.hold()
    async with fronted(guard) as (front, http, _):
        accepted = asyncio.create_task(post(http))
        await until_asked(guard)
        draining = asyncio.create_task(front.drain())
        while (await http.get("/v1/models")).is_success:
            refused = await post(http)
            if refused.status_code == 503:
                break
        ready = await http.get("/health/ready")
        live = await http.get("/health/live")
        guard.release()
        response = await accepted
        await draining

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "draining"
    assert (ready.status_code, live.status_code) == (503, 200)
    assert response.status_code == 200
    assert front.is_drained


async def test_a_drain_that_takes_too_long_is_given_up():
    guard = FakeGuard()
    guard.hold()
    async with fronted(guard, drain_seconds=0.1) as (front, http, _):
        accepted = asyncio.create_task(post(http))
        await until_asked(guard)
        await front.drain()
        guard.release()
        await accepted

    assert not front.is_drained


async def test_sigterm_drains_and_a_second_one_ends_the_drain():
    guard = FakeGuard()
    guard.hold()
    metrics = Metrics()
    here = settings(port=0)
    serving = asyncio.create_task(serve(gateway_on(guard, metrics), here, metrics))
    await until_ready(metrics)

    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == EXIT_DRAINED

    waiting = settings(lame_duck_seconds=600)
    serving = asyncio.create_task(serve(gateway_on(guard, metrics), waiting, metrics))
    await until_ready(metrics)
    os.kill(os.getpid(), signal.SIGTERM)
    while metrics.registry.get_sample_value("gateway_ready"):  # noqa: ASYNC110 - set by the drain
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == EXIT_UNFINISHED


async def until_ready(metrics: Metrics) -> None:
    while not metrics.registry.get_sample_value("gateway_ready"):  # noqa: ASYNC110 - a gauge
        await asyncio.sleep(0.01)


async def test_a_port_in_use_is_a_wrong_configuration():
    async with fronted(FakeGuard()) as (front, _, _):
        with pytest.raises(ConfigurationError, match=str(front.http_port)):
            async with fronted(FakeGuard(), port=front.http_port):
                pass


async def test_no_text_of_a_path_is_logged(capsys: pytest.CaptureFixture[str]):
    async with fronted(FakeGuard()) as (_, http, _):
        await http.post("/a/secret/path")

    written = "".join(capsys.readouterr())
    assert "http" in written
    assert "secret" not in written


async def test_only_http_passes_the_door_uncounted():
    seen: list[str] = []

    async def app(scope: dict[str, str], receive: object, send: object) -> None:
        del receive, send
        seen.append(scope["type"])

    door = HttpDoor(app, Metrics())
    await door({"type": "lifespan"}, None, None)

    assert seen == ["lifespan"]
    assert door.num_inside == 0


def test_what_the_settings_name_is_what_the_package_ships():
    demonstration = Path(read_policies.__code__.co_filename).parent / "policies"

    assert read_policies(load({"policies": str(demonstration / "demonstration.yaml")})).by_id


async def test_a_person_can_talk_with_it_from_the_terminal():
    async with fronted(FakeGuard()) as (front, _, _):
        chat = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chat_gateway", "chat"),
            *("--url", f"http://127.0.0.1:{front.http_port}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        output, _ = await chat.communicate(f"Hello\nHow do I {UNSAFE_PHRASE}?\n".encode())

    told = output.decode()
    assert chat.returncode == 0
    assert "Talking with scripted" in told
    assert told.index("All is fine.") < told.index("response: safe")
    assert "prompt: blocked (S9 Test Hazard)" in told
