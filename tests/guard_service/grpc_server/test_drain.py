"""The end of a server: what was accepted is answered, what comes later is turned away."""

import asyncio
import random
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from guard_service.batcher import Batcher
from guard_service.grpc_server.serving import serve
from tests.fakes import FakeEngine
from tests.serving import QUICK, asking, composed, delta, opening, running_server, until

ROOT = Path(__file__).parents[3]


async def test_a_drain_answers_everything_accepted():
    async with running_server() as service:
        service.engine.hold()
        calls = [service.stub.Moderate(asking(f"request {i}")) for i in range(50)]
        await until(lambda: service.server._door.num_inside == 50)
        draining = asyncio.create_task(service.server.drain())
        await until(lambda: service.server._door._refusal is not None)
        said = service.counted("guard_draining"), service.counted("guard_ready")
        late = service.stub.Moderate(asking("late"))
        code = await late.code()
        service.engine.release()
        responses = await asyncio.gather(*calls)
        await draining

    assert code is grpc.StatusCode.UNAVAILABLE
    assert len(responses) == 50
    assert said == (1, 0)
    assert service.server.is_drained
    assert not any("late" in text for text in service.engine.texts)


async def test_a_drain_lets_an_open_stream_finish():
    async with running_server() as service:
        call = service.stub.ModerateStream()
        await call.write(opening())
        await until(lambda: service.moderator.num_open_streams == 1)
        draining = asyncio.create_task(service.server.drain())
        await until(lambda: service.server._door._refusal is not None)
        await call.write(delta("the end"))
        await call.done_writing()
        responses = [response async for response in call]
        await draining

    assert [response.final for response in responses] == [True]
    assert service.server.is_drained


async def test_a_drain_does_not_wait_for_ever():
    async with running_server(options=replace(QUICK, drain_seconds=0.05)) as service:
        service.engine.hold()
        call = service.stub.Moderate(asking("stuck"))
        await service.engine.until_busy()
        await service.server.drain()

        assert not service.server.is_drained
        assert not call.done()


class DyingBatcher(Batcher):
    """Feeds nothing to anybody."""

    async def run(self) -> None:
        raise ZeroDivisionError


async def test_a_service_that_can_no_longer_work_ends():
    engine = FakeEngine()
    moderator, _, metrics = composed(engine)
    dying = DyingBatcher(
        engine, max_batch_tokens=1, max_queue_items=1, max_queue_tokens=1, observer=metrics
    )

    assert await serve(moderator, dying, QUICK, metrics) == 1


@asynccontextmanager
async def served(
    *arguments: str, event: bytes = b"event=ready"
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server in a process of its own that has logged an event, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fake_service", *arguments, cwd=ROOT, stdout=-1
    )
    assert process.stdout
    try:
        async for line in process.stdout:
            if event in line and (port := re.search(rb"port=(\d+)", line)):
                break
        yield process, f"127.0.0.1:{int(port[1])}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def outcome(channel: grpc.aio.Channel, text: str) -> tuple[grpc.StatusCode, str]:
    """How a call ends, without any retry."""
    call = channel.unary_unary("/guard_service.v1.GuardService/Moderate")(
        asking(text).SerializeToString()
    )
    return await call.code(), await call.details()


ANSWERED = (grpc.StatusCode.OK, "")
TURNED_AWAY = (grpc.StatusCode.UNAVAILABLE, "the service is draining")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_with_nothing_lost(number: signal.Signals):
    """A call is answered or, if it came too late to be accepted, turned away: never cut."""
    async with (
        served("--seconds-per-batch", "0.02") as (process, target),
        grpc.aio.insecure_channel(target) as channel,
    ):
        await channel.channel_ready()
        calls = [asyncio.create_task(outcome(channel, f"request {i}")) for i in range(100)]
        await asyncio.sleep(random.uniform(0.05, 0.2))
        process.send_signal(number)
        outcomes = await asyncio.gather(*calls)
        exit_code = await process.wait()

    assert ANSWERED in outcomes
    assert set(outcomes) <= {ANSWERED, TURNED_AWAY}
    assert exit_code == 0


async def test_a_second_signal_ends_the_drain():
    async with (
        served("--lame-duck-seconds", "600") as (process, target),
        grpc.aio.insecure_channel(target) as channel,
    ):
        await channel.channel_ready()
        process.send_signal(signal.SIGTERM)
        assert await outcome(channel, "in the lame-duck time") == ANSWERED
        process.send_signal(signal.SIGTERM)

        assert await process.wait() == 1


async def test_a_signal_during_the_warm_up_ends_the_process():
    async with served("--hold", event=b"event=listening") as (process, _):
        process.send_signal(signal.SIGTERM)

        assert await process.wait() == 1
