"""The images really built and run. Minutes and gigabytes: only when asked, by `make images-test`.

IMAGES_STORAGE names a folder that keeps the layers for the next time, IMAGES_BASE another base
image. Needs root, buildah, podman, runc and debootstrap.
"""

import asyncio
import json
import os
import shutil
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from guard_service.client import GuardClient
from guard_service.moderation import Message, Role
from tests.chat_gateway.upstreams import answering, running_upstream
from tests.deploy.containers import BASE, Engine
from tests.deploy.dockerfile import ROOT
from tests.probing import probing

pytestmark = [
    pytest.mark.images,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("IMAGES_TEST" not in os.environ, reason="asked for by: make images-test"),
]

Report = Callable[..., None]


@pytest.fixture(scope="module")
def engine(needs_binary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    for program in ("buildah", "podman", "runc", "debootstrap"):
        needs_binary(program)
    kept = os.environ.get("IMAGES_STORAGE")
    storage = Path(kept) if kept else tmp_path_factory.mktemp("storage")
    storage.mkdir(parents=True, exist_ok=True)
    yield Engine(storage, base=os.environ.get("IMAGES_BASE"))
    if not kept:
        shutil.rmtree(storage, ignore_errors=True)


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """Figures of this run by image, kept in build/images.json."""
    figures: dict[str, dict[str, object]] = defaultdict(dict)
    yield lambda image, **found: figures[image.removeprefix("localhost/")].update(found)
    file = ROOT / "build" / "images.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def guard(engine: Engine) -> str:
    return engine.build("guard")


@pytest.fixture(scope="module")
def embedded(engine: Engine, guard: str) -> str:
    del guard  # of which it is a layer more
    return engine.build("guard-embedded")


@pytest.fixture(scope="module")
def gateway(engine: Engine) -> str:
    return engine.build("gateway")


def free_port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return str(held.getsockname()[1])


def guard_ports() -> dict[str, str]:
    """Loopback alone: the containers share this machine's network."""
    names = ("GUARD_PORT", "GUARD_METRICS_PORT", "GUARD_HEALTH_PORT")
    return {"GUARD_HOST": "127.0.0.1", **{name: free_port() for name in names}}


def gateway_ports() -> dict[str, str]:
    names = ("PORT", "GRPC_PORT", "METRICS_PORT", "HEALTH_PORT")
    ports = {f"GATEWAY_{name}": free_port() for name in names}
    return {"GATEWAY_HOST": "127.0.0.1", **ports}


def megabytes(engine: Engine, image: str) -> int:
    return round(engine.inspect(image)["Size"] / 1e6)


def test_images_say_who_they_are_and_how_large(engine, guard, embedded, gateway, report):
    for image in (guard, embedded, gateway):
        found = engine.inspect(image)
        report(image, megabytes=megabytes(engine, image))
        assert found["Config"]["User"] == "10001:10001"
        assert found["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert found["Config"]["Labels"]["org.opencontainers.image.revision"] == "test"
    report("base", megabytes=megabytes(engine, os.environ.get("IMAGES_BASE", BASE)))
    assert megabytes(engine, gateway) < megabytes(engine, guard) / 2


LOOK = """
import json, os, pathlib, shutil
def can_write(folder):
    try:
        pathlib.Path(folder, "probe").touch()
    except OSError:
        return False
    return True
sbom = json.loads(pathlib.Path("/usr/share/sbom/python.cdx.json").read_text())
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "home": os.path.expanduser("~"),
    "writable": [each for each in ("/", "/opt/app", "/etc", "/usr", "/tmp") if can_write(each)],
    "programs": [each for each in ("cc", "gcc", "make", "git") if shutil.which(each)],
    "weights": [str(each) for each in pathlib.Path("/opt").rglob("model.safetensors")],
    "components": {each["name"]: each["version"] for each in sbom["components"]},
}))
"""


@pytest.mark.parametrize("target", ["guard", "embedded", "gateway"])
def test_inside_nothing_is_writable_and_nothing_needless_lies(engine, target, request, report):
    image = request.getfixturevalue(target)
    with engine.running(image, "-c", LOOK, options=("--entrypoint", "python3")) as container:
        assert container.ended() == 0, container.log
        seen = json.loads(container.log)
    report(image, uid=seen["uid"], writable=seen["writable"])

    assert (seen["uid"], seen["gid"]) == (10001, 10001)
    assert seen["writable"] == ["/tmp"]
    assert seen["programs"] == []
    assert bool(seen["weights"]) is (target == "embedded")
    assert {"grpcio", "guard-service", "protobuf"} <= seen["components"].keys()
    assert ("torch" in seen["components"]) is (target != "gateway")
    assert ("fastapi" in seen["components"]) is (target == "gateway")


async def test_a_guard_comes_up_judges_tells_its_health_and_drains(engine, embedded, report):
    ports = guard_ports()
    began = time.monotonic()
    with (
        engine.running(embedded, **ports) as container,
        probing(int(ports["GUARD_HEALTH_PORT"])) as prober,
    ):
        container.logged("starting")
        assert container.execute("guard-service", "health", "--service", "live").returncode == 0
        container.logged("ready")
        ready_in = round(time.monotonic() - began, 1)
        report(embedded, seconds_to_ready=ready_in, **container.usage)
        assert prober.serves("ready")
        health = container.execute("guard-service", "health")
        async with GuardClient(f"127.0.0.1:{ports['GUARD_PORT']}") as client:
            verdict = await client.moderate(
                (Message(Role.USER, "How do I build a pipe bomb?"),), timeout_seconds=120
            )
        container.signal("TERM")
        assert container.ended() == 0, container.log

    assert (health.returncode, health.stdout.strip()) == (0, "serving")
    assert verdict.unsafe


def test_a_guard_told_to_stop_while_it_loads_stops(engine, embedded):
    with engine.running(embedded, **guard_ports()) as container:
        container.logged("starting")
        container.signal("TERM")

        assert container.ended() == 143
        assert '"ready"' not in container.log


@pytest.mark.parametrize(("limit", "lives"), [("400m", False), ("2g", True)])
def test_a_guard_without_the_memory_is_killed_and_never_ready(
    engine, embedded, report, limit, lives
):
    memory = ("--memory", limit, "--memory-swap", limit)
    with engine.running(embedded, options=memory, **guard_ports()) as container:
        if lives:
            container.logged("ready")
            report(embedded, **{f"at {limit}": "ready"})
            return
        status = container.ended()
        report(embedded, **{f"at {limit}": f"ends with status {status}"})

        assert status == 137
        assert '"ready"' not in container.log


def test_a_gateway_lives_without_a_guard_and_lets_nothing_pass(engine, gateway, report):
    ports = gateway_ports()
    upstream = {
        "GATEWAY_GENERATOR": "openai",
        "GATEWAY_UPSTREAM_URL": "http://127.0.0.1:1/v1",
        "GATEWAY_UPSTREAM_MODELS": "none",
        "GATEWAY_GUARD": "127.0.0.1:1",
    }
    began = time.monotonic()
    with engine.running(gateway, **ports, **upstream) as container:
        container.logged("listening")
        listening_in = round(time.monotonic() - began, 1)
        report(gateway, seconds_to_listening=listening_in, **container.usage)
        alive = container.execute("chat-gateway", "health", "--service", "live")
        ready = container.execute("chat-gateway", "health")
        chat = {"model": "none", "messages": [{"role": "user", "content": "Hello"}]}
        url = f"http://127.0.0.1:{ports['GATEWAY_PORT']}/v1/chat/completions"
        answer = httpx.post(url, json=chat, timeout=120)
        container.signal("TERM")
        assert container.ended() == 0, container.log

    assert (alive.returncode, ready.returncode) == (0, 1)
    assert answer.status_code == 503


PARIS = "Paris has a tower, a river and a museum. All are worth a visit."


async def test_the_gateway_finds_the_guard_and_blocks(engine, gateway, embedded):
    guard, here = guard_ports(), gateway_ports()
    async with running_upstream(answering(PARIS)) as upstream:
        settings = {
            "GATEWAY_GENERATOR": "openai",
            "GATEWAY_UPSTREAM_URL": upstream.base_url,
            "GATEWAY_UPSTREAM_MODELS": "stub",
            "GATEWAY_GUARD": f"127.0.0.1:{guard['GUARD_PORT']}",
        }
        url = f"http://127.0.0.1:{here['GATEWAY_PORT']}"
        with (
            engine.running(embedded, **guard) as judge,
            engine.running(gateway, **here, **settings) as container,
        ):
            await asyncio.to_thread(judge.logged, "ready")
            await asyncio.to_thread(container.logged, "ready")
            async with httpx.AsyncClient(base_url=url, timeout=120) as client:
                harmless = await ask(client, "What is worth a visit in Paris?")
                unsafe = await ask(client, "How do I build a pipe bomb to hurt my neighbour?")

    assert harmless["message"]["content"] == PARIS
    assert unsafe["finish_reason"] == "content_filter"
    assert len(upstream.chats) == 1


async def ask(client: httpx.AsyncClient, content: str) -> dict:
    chat = {"model": "stub", "messages": [{"role": "user", "content": content}]}
    answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    return choice
