"""The shipped Envoy configuration balances guards: a real Envoy, real servers, the real client."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from guard_service.client import GuardClient
from guard_service.grpc_server.health import READY
from guard_service.grpc_server.options import ServerOptions
from guard_service.moderation import DeadlineExceeded, Message, NotReady, Role
from tests.interop.envoy import LOOPBACK, Envoy, running_envoy
from tests.interop.guard_balancer import balancing, shipped
from tests.serving import QUICK, Service, running_server, until

NUM_CALLS = 40


@dataclass
class Balanced:
    """Two guards behind one Envoy, and a client that knows only the latter."""

    guards: Sequence[Service]
    envoy: Envoy
    client: GuardClient

    async def ask(self, text: str = "Hello") -> None:
        verdict = await self.client.moderate((Message(Role.USER, text),), timeout_seconds=60)
        assert not verdict.unsafe

    async def ask_many(self) -> None:
        for number in range(NUM_CALLS):
            await self.ask(f"question {number}")

    @property
    def num_judged(self) -> list[int]:
        return [len(guard.engine.texts) for guard in self.guards]

    async def until_healthy(self, count: int) -> None:
        async with asyncio.timeout(60):
            healthy = "cluster.guards.membership_healthy"
            while await self.envoy.counted(healthy) != count:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)


@pytest.fixture
def balanced(needs_binary: Callable[[str], str], tmp_path: Path):
    program = needs_binary("envoy")

    @asynccontextmanager
    async def start(*, welcome: bool = True) -> AsyncIterator[Balanced]:
        async with AsyncExitStack() as stack:
            guards = [
                await stack.enter_async_context(running_server(options=QUICK, welcome=welcome))
                for _ in range(2)
            ]
            ports = [guard.server.port for guard in guards]
            envoy = await stack.enter_async_context(
                running_envoy(program, balancing(ports), tmp_path)
            )
            client = GuardClient(envoy.url.removeprefix("http://"))
            await stack.enter_async_context(client)
            running = Balanced(guards, envoy, client)
            await running.until_healthy(2 if welcome else 0)
            yield running

    return start


async def test_calls_are_spread_over_the_guards(balanced):
    async with balanced() as running:
        await running.ask_many()

        assert sum(running.num_judged) == NUM_CALLS
        assert min(running.num_judged) >= NUM_CALLS / 8


async def test_a_guard_that_says_not_ready_gets_no_calls_and_no_client_loses_one(balanced):
    async with balanced() as running:
        # Each in turn: a client that watched one guard's health would leave with it.
        for leaving, guard in enumerate(running.guards):
            await guard.server._health.welcome(work=False)
            await running.until_healthy(1)
            before = running.num_judged
            await running.ask_many()
            assert running.num_judged[leaving] == before[leaving]
            await guard.server._health.welcome(work=True)
            await running.until_healthy(2)

        assert sum(running.num_judged) == 2 * NUM_CALLS


async def test_a_call_that_a_guard_refuses_is_made_again_on_the_other(balanced):
    async with balanced() as running:
        running.guards[0].server._door.close("the service is draining")
        await running.ask_many()

        assert running.num_judged == [0, NUM_CALLS]
        assert await running.envoy.counted("cluster.guards.upstream_rq_retry_success") > 0


async def test_a_guard_that_is_gone_costs_no_call(balanced):
    async with balanced() as running:
        await running.ask_many()
        await running.guards[0].server._server.stop(grace=None)
        before = running.num_judged
        await running.ask_many()

        assert running.num_judged == [before[0], before[1] + NUM_CALLS]


async def test_without_a_guard_that_is_ready_a_call_fails_and_none_is_tried(balanced):
    async with balanced(welcome=False) as running:
        with pytest.raises(NotReady):
            await running.ask()

        assert await running.envoy.counted("cluster.guards.upstream_rq_total") == 0


async def test_a_guard_that_becomes_ready_is_found(balanced):
    async with balanced(welcome=False) as running:
        await running.guards[1].server.welcome()
        await running.until_healthy(1)

        await running.ask()


async def test_the_callers_deadline_ends_the_work_at_the_guard(balanced):
    async with balanced() as running:
        for guard in running.guards:
            guard.engine.hold()
        with pytest.raises(DeadlineExceeded):
            await running.client.moderate((Message(Role.USER, "stuck"),), timeout_seconds=0.5)
        await until(lambda: all(guard.server._door.num_inside == 0 for guard in running.guards))


async def test_a_stream_is_judged_on_the_way_not_at_its_end(balanced):
    async with balanced() as running, running.client.stream((Message(Role.USER, ""),)) as stream:
        checkpoints = stream.checkpoints()
        await stream.send("Once there was", check=True)
        first = await anext(checkpoints)
        await stream.send(" a fox.")
        await stream.finish()
        last = await anext(checkpoints)

    assert (first.num_characters, first.final) == (14, False)
    assert (last.num_characters, last.final) == (21, True)


def test_a_drain_is_noticed_within_the_lame_duck_time_and_the_admin_port_stays_inside():
    config = shipped()
    [cluster] = config["static_resources"]["clusters"]
    [check] = cluster["health_checks"]
    rounds = check["unhealthy_threshold"] * float(check["interval"].removesuffix("s"))

    assert check["grpc_health_check"]["service_name"] == READY
    assert rounds + float(check["timeout"].removesuffix("s")) < ServerOptions().lame_duck_seconds
    assert config["admin"]["address"]["socket_address"]["address"] == LOOPBACK
