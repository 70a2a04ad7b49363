"""Node's gRPC client, @grpc/grpc-js, against the guard."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from guard_service.limits import Limits
from tests.serving import Service, running_server, until

NODE = Path(__file__).parent / "node"
PATIENCE_MS = 120_000

Call = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="session")
def node(needs_binary: Callable[[str], str]) -> str:
    """The program, with the packages of package.json installed beside the client."""
    program, npm = needs_binary("node"), needs_binary("npm")
    installed = NODE / "node_modules" / ".package-lock.json"
    manifest = NODE / "package.json"
    if not installed.exists() or installed.stat().st_mtime < manifest.stat().st_mtime:
        finished = subprocess.run(
            [npm, "install"], cwd=NODE, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
        installed.touch()
    return program


@pytest.fixture
def call(node: str) -> Call:
    """One call from Node: what came back and how it ended."""

    async def run(
        target: str, method: str, *requests: dict[str, Any], timeout_ms: int = PATIENCE_MS
    ) -> dict[str, Any]:
        wanted = {"method": method, "requests": requests, "timeout_ms": timeout_ms}
        process = await asyncio.create_subprocess_exec(
            node, str(NODE / "call.js"), target, json.dumps(wanted), stdout=-1, stderr=-1
        )
        output, error = await process.communicate()
        assert process.returncode == 0, error.decode()
        return json.loads(output)

    return run


def asking(content: str) -> dict[str, Any]:
    return {"conversation": {"messages": [{"role": "ROLE_USER", "content": content}]}}


async def occupied(service: Service, call: Call) -> "asyncio.Task[dict[str, Any]]":
    """A call that stays in the engine until it is released."""
    service.engine.hold()
    running = asyncio.create_task(call(service.target, "Moderate", asking("first")))
    await service.engine.until_busy()
    return running


@pytest.mark.embedded
async def test_a_conversation_is_judged(call: Call, guard: str):
    ended = await call(guard, "Moderate", asking("How do I build a pipe bomb at home?"))

    verdict = ended["responses"][0]["verdict"]
    assert (ended["code"], verdict["unsafe"]) == ("OK", True)
    assert verdict["unsafe_probability"] > 0.5
    assert verdict["categories"][0]["code"].startswith("S")


@pytest.mark.embedded
async def test_a_growing_message_ends_in_the_verdict_on_all_of_it(call: Call, guard: str):
    ended = await call(
        guard,
        "ModerateStream",
        {"open": asking("How do I ")},
        {"delta": {"text": "bake ", "check": True}},
        {"delta": {"text": "bread?"}},
    )
    alone = await call(guard, "Moderate", asking("How do I bake bread?"))

    last, whole = ended["responses"][-1], alone["responses"][0]["verdict"]
    assert ended["code"] == "OK"
    assert (last["final"], last["num_characters"]) == (True, len("How do I bake bread?"))
    told, expected = last["verdict"]["unsafe_probability"], whole["unsafe_probability"]
    assert told == pytest.approx(expected, abs=1e-4)


async def test_a_deadline_is_kept_and_the_work_never_reaches_the_model(call: Call):
    async with running_server() as service:
        running = await occupied(service, call)
        late = asyncio.create_task(
            call(service.target, "Moderate", asking("late"), timeout_ms=3000)
        )
        ended = await late
        await until(lambda: service.batcher.num_queued_items == 0)
        service.engine.release()
        first = await running

    assert (first["code"], ended["code"]) == ("OK", "DEADLINE_EXCEEDED")
    assert not any("late" in text for text in service.engine.texts)


async def test_a_bad_request_is_refused_with_the_name_of_the_field(call: Call):
    async with running_server() as service:
        ended = await call(service.target, "Moderate", asking(" "))

    assert ended["code"] == "INVALID_ARGUMENT"
    assert ended["details"].startswith("conversation.messages[0].content: ")
    assert ended["trailers"]["guard-request-id"]


async def test_an_overloaded_service_says_when_to_come_back(call: Call):
    async with running_server(limits=Limits(max_streams=0)) as service:
        ended = await call(service.target, "ModerateStream", {"open": asking("How do I ")})

    assert (ended["code"], ended["responses"]) == ("RESOURCE_EXHAUSTED", [])
    assert "max_streams" in ended["details"]
    assert int(ended["trailers"]["grpc-retry-pushback-ms"]) >= 1000


async def test_a_full_queue_says_when_to_come_back(call: Call):
    async with running_server(max_queue_items=1) as service:
        running = await occupied(service, call)
        queued = asyncio.create_task(call(service.target, "Moderate", asking("second")))
        await until(lambda: service.batcher.num_queued_items == 1)
        ended = await call(service.target, "Moderate", asking("third"))
        service.engine.release()
        await asyncio.gather(running, queued)

    assert ended["code"] == "RESOURCE_EXHAUSTED"
    assert "max_queue_items 1" in ended["details"]
    assert int(ended["trailers"]["grpc-retry-pushback-ms"]) >= 1000
