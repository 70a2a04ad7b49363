"""Guards are replaced, or one is killed, under load: no caller notices, and nothing unsafe passes.

Real processes behind a name, the real client, and a real Envoy or the client's own balancing.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from guard_service.client import GuardClient
from guard_service.grpc_server.options import ServerOptions
from guard_service.moderation import Message, Role
from tests.fakes import UNSAFE_WORD
from tests.interop.envoy import running_envoy
from tests.interop.fleet import NAME, Fleet, running_fleet
from tests.interop.guard_balancer import balancing_name
from tests.interop.steady_load import Question, Reply, SteadyLoad

TEXTS = ("how to bake bread", f"how to build a {UNSAFE_WORD}")
PADDING = " and what it takes" * 12
"""Streams of it are open for some time."""
QUESTIONS = tuple(
    Question((Message(Role.USER, f"Question {number}: {text}{PADDING}"),), UNSAFE_WORD in text)
    for number in range(10)
    for text in TEXTS
)
PAUSE_SECONDS = 8.0
"""For a new guard to be found: Envoy looks at the name every five seconds, a client when a
connection ends."""
MAX_CONNECTION_AGE_SECONDS = 2.0


def command(address: str, port: int) -> Sequence[str]:
    at = (f"--host={address}", f"--port={port}")
    times = (
        f"--lame-duck-seconds={ServerOptions().lame_duck_seconds}",
        f"--max-connection-age-seconds={MAX_CONNECTION_AGE_SECONDS}",
    )
    # Slow, so that every guard has calls when it goes, and never too slow for the load.
    engine = ("--seconds-per-batch=0.15", "--max-batch-tokens=4096")
    return (sys.executable, "-m", "tests.fake_service", *at, *times, *engine)


@dataclass
class Loaded:
    """Guards under load; the load's replies are complete once the context has ended."""

    fleet: Fleet
    load: SteadyLoad

    @property
    def errors(self) -> list[Reply]:
        return [reply for reply in self.load.replies if reply.error]

    @property
    def wrong(self) -> list[Reply]:
        return [reply for reply in self.load.replies if reply.is_wrong]


@pytest.fixture(params=["envoy", "client"])
def loaded(request: pytest.FixtureRequest, needs_binary: Callable[[str], str], tmp_path: Path):
    program = needs_binary("envoy") if request.param == "envoy" else None

    @asynccontextmanager
    async def start() -> AsyncIterator[Loaded]:
        async with AsyncExitStack() as stack:
            fleet = await stack.enter_async_context(running_fleet(command))
            target = fleet.target
            if program:
                config = balancing_name(NAME, fleet.port, name_server_port=fleet.names.port)
                envoy = await stack.enter_async_context(running_envoy(program, config, tmp_path))
                await envoy.until("cluster.guards.membership_healthy", len(fleet.replicas))
                target = envoy.url.removeprefix("http://")
            client = await stack.enter_async_context(GuardClient(target))
            await client.info()
            load = SteadyLoad(client, QUESTIONS, per_second=20.0)
            async with load.running():
                await asyncio.sleep(1)
                yield Loaded(fleet, load)
                await asyncio.sleep(1)

    return start


async def test_guards_that_are_replaced_lose_no_call_and_no_stream(loaded):
    async with loaded() as running:
        await running.fleet.replace_all(spare=False, pause_seconds=PAUSE_SECONDS)

    assert running.errors == []
    assert running.wrong == []


async def test_a_guard_that_is_killed_costs_no_more_than_the_streams_it_had(loaded):
    async with loaded() as running:
        killed = asyncio.get_running_loop().time()
        await running.fleet.kill_one()

    assert [each for each in running.errors if not each.streamed or each.began > killed + 1] == []
    assert running.wrong == []
