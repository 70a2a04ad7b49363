"""A device that is full costs nobody else a verdict; one that is broken costs the process."""

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from guard_service.client import GuardClient
from guard_service.engine.protocol import EngineLost, Judgement, Scores
from guard_service.grpc_server.health import LIVE, OVERALL, READY
from guard_service.grpc_server.serving import EXIT_ENGINE_LOST, serve
from guard_service.moderation import InvalidRequest, ModerationError, OutOfMemory
from guard_service.v1 import guard_pb2, guard_pb2_grpc
from tests.command import ROOT, logged
from tests.fakes import FakeEngine, flag_bombs
from tests.prompts import said
from tests.serving import (
    QUICK,
    Service,
    asking,
    composed,
    conversation,
    failure_of,
    running_server,
    until,
)

BROKEN = "device-side assert triggered"
LONG = "word " * 500


class FullDevice(FakeEngine):
    """Has room for so many new tokens."""

    room = 1_000_000

    def score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        results = super().score(batch)
        if sum(judgement.num_new_tokens for judgement in batch) > self.room:
            raise OutOfMemory("the text does not fit the memory")
        return results


def break_on_poison(text: str, num_categories: int) -> Scores:
    if "poison" in text:
        raise EngineLost(BROKEN)
    return flag_bombs(text, num_categories)


async def queue_up(service: Service, *texts: str) -> list["asyncio.Task[object]"]:
    """Requests that wait in this order, behind one that holds the engine until it is released."""
    service.engine.hold()
    calls = [asyncio.ensure_future(ask(service, "first"))]
    await service.engine.until_busy()
    for number, text in enumerate(texts, start=1):
        calls.append(asyncio.ensure_future(ask(service, text)))
        await until(lambda number=number: service.batcher.num_queued_items == number)
    return calls


async def ask(service: Service, text: str) -> object:
    return await service.stub.Moderate(asking(text))


async def test_a_batch_that_does_not_fit_is_scored_in_parts_and_later_ones_are_smaller():
    engine = FullDevice()
    async with running_server(engine) as service:
        texts = [f"a {'cake' if i % 3 else 'bomb'} {i}" for i in range(8)]
        calls = await queue_up(service, *texts)
        engine.room = 2 * service.batcher.num_queued_tokens // len(texts)
        engine.release()
        _, *responses = await asyncio.gather(*calls)
        engine.journal.clear()
        lowered = service.batcher.max_batch_tokens
        again = await queue_up(service, *texts)
        engine.release()
        await asyncio.gather(*again)

    assert [r.verdict.unsafe for r in responses] == ["bomb" in text for text in texts]
    assert service.counted("guard_out_of_memory_total") == 3
    assert service.counted("guard_max_batch_tokens") == lowered < 1024
    assert max(len(batch) for batch in engine.journal) <= 2


async def test_a_text_that_does_not_fit_alone_is_refused_for_good_and_the_service_lives_on():
    engine = FullDevice()
    async with running_server(engine) as service, GuardClient(service.target) as client:
        engine.room = 200
        error = await failure_of(service.stub.Moderate(asking(LONG)))
        tries = len(engine.journal)
        with pytest.raises(InvalidRequest, match="memory"):
            await client.moderate(said(("user", LONG)))
        response = await service.stub.Moderate(asking("short"))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"
    assert response.verdict.HasField("unsafe")
    assert tries == 1
    assert len([text for text in engine.texts if "word" in text]) == 2, "nobody tried again"
    assert service.batcher.max_batch_tokens == 1024


async def test_a_broken_device_ends_all_judging_and_says_so():
    engine = FakeEngine(break_on_poison)
    async with running_server(engine, max_batch_tokens=1) as service:
        watching = [
            health_pb2_grpc.HealthStub(service.channel).Watch(
                health_pb2.HealthCheckRequest(service=name)
            )
            for name in (OVERALL, LIVE, READY)
        ]
        before = [(await watch.read()).status for watch in watching]
        failed = asyncio.create_task(service.server.failed())
        first, poisoned, queued = await queue_up(service, "poison", "queued")
        engine.release()
        after = [(await watch.read()).status for watch in watching]
        outcomes = await asyncio.gather(first, poisoned, queued, return_exceptions=True)
        await failed

    assert set(before) == {health_pb2.HealthCheckResponse.SERVING}
    assert set(after) == {health_pb2.HealthCheckResponse.NOT_SERVING}
    assert outcomes[0].verdict.HasField("unsafe")
    assert outcomes[1].code() is grpc.StatusCode.INTERNAL
    assert outcomes[2].code() is grpc.StatusCode.UNAVAILABLE
    assert len([text for text in engine.texts if "poison" in text]) == 1
    assert not any("queued" in text for text in engine.texts)
    assert service.batcher.is_lost
    assert service.counted("guard_ready") == 0


async def test_a_device_that_breaks_in_the_warm_up_is_not_called_a_wrong_setting():
    def broken(_: str, __: int) -> Scores:
        raise EngineLost(BROKEN)

    moderator, batcher, metrics = composed(FakeEngine(broken))

    assert await serve(moderator, batcher, QUICK, metrics) == EXIT_ENGINE_LOST


@contextmanager
def failing(kind: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """The real command on a real model whose device fails above 400 new tokens."""
    flags = ["--port=0", "--metrics-port=0", "--log-format=json", f"--model={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.failing_device", kind, "400", "serve", *flags],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        metrics_port = logged(process, "starting")["metrics_port"]
        yield process, metrics_port, f"127.0.0.1:{logged(process, 'ready')['port']}"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def scraped(port: int, name: str) -> float:
    """A metric without labels, as a scrape finds it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


async def test_on_a_full_device_the_real_engine_goes_on(llama_folder: Path):
    with failing("full", llama_folder) as (process, metrics_port, target):
        async with grpc.aio.insecure_channel(target) as channel:
            stub = guard_pb2_grpc.GuardServiceStub(channel)
            many = [conversation(f"How do I bake bread number {i}?") for i in range(32)]
            batch = await stub.ModerateBatch(guard_pb2.ModerateBatchRequest(conversations=many))
            error = await failure_of(stub.Moderate(asking(LONG)))
            response = await stub.Moderate(asking("short"))
        num_failures = await asyncio.to_thread(scraped, metrics_port, "guard_out_of_memory_total")

        assert process.poll() is None
    assert [item.WhichOneof("result") for item in batch.items] == ["verdict"] * 32
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert response.verdict.HasField("unsafe")
    assert num_failures >= 2


async def test_on_a_broken_device_the_process_ends_with_its_own_status(llama_folder: Path):
    with failing("lost", llama_folder) as (process, _, target):
        async with grpc.aio.insecure_channel(target) as channel:
            stub = guard_pb2_grpc.GuardServiceStub(channel)
            response = await stub.Moderate(asking("short"))
            error = await failure_of(stub.Moderate(asking(LONG)))
        reason = await asyncio.to_thread(logged, process, "engine lost")

        assert await asyncio.to_thread(process.wait, 60) == EXIT_ENGINE_LOST == 70
    assert response.verdict.HasField("unsafe")
    assert error.code() is grpc.StatusCode.INTERNAL
    assert reason["reason"] == BROKEN
