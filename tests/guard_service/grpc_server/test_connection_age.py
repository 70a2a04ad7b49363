"""Connections end in time, so that clients find servers that came later; no call is lost by it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from guard_service.client import GuardClient
from guard_service.moderation import Message, Role
from tests.dns_server import name_server
from tests.free_port import port_free_on
from tests.serving import QUICK, Service, running_server

CONVERSATION = (Message(Role.USER, "How do I bake bread?"),)
SHORT = replace(QUICK, max_connection_age_seconds=0.3)
PATIENCE_SECONDS = 120


class Relay:
    """Passes connections on to a port, and counts them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.target = ""
        self.num_connections = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        inward, outward = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(_copy(reader, outward), _copy(inward, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    relay = Relay(port)
    async with await asyncio.start_server(relay.accept, "127.0.0.1", 0) as front:
        relay.target = f"127.0.0.1:{front.sockets[0].getsockname()[1]}"
        yield relay


async def test_a_client_notices_nothing_when_its_connections_end():
    num_verdicts = 0
    async with (
        running_server(options=SHORT) as service,
        relay_to(service.server.port) as relay,
        GuardClient(relay.target) as client,
    ):

        async def ask_until_reconnected() -> None:
            nonlocal num_verdicts
            while relay.num_connections < 5:
                await client.moderate(CONVERSATION)
                num_verdicts += 1

        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(ask_until_reconnected() for _ in range(8)))

    assert num_verdicts > 5


async def test_a_stream_outlives_its_connections_age():
    async with (
        running_server(options=SHORT) as service,
        relay_to(service.server.port) as relay,
        GuardClient(relay.target) as client,
        client.stream(CONVERSATION) as stream,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        while relay.num_connections < 3:
            await client.moderate(CONVERSATION)
        await stream.send(" And butter?")
        await stream.finish()
        checkpoints = [each async for each in stream.checkpoints()]

    assert checkpoints[-1].final


async def test_a_server_that_came_later_gets_its_share():
    """Without an end of connections, a client would keep to the servers it found first."""
    addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    options = replace(SHORT, port=port_free_on(addresses), max_connection_age_seconds=0.5)
    services: list[Service] = []
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(name_server(*addresses[:2]))
        client = await stack.enter_async_context(
            GuardClient(f"dns://127.0.0.1:{names.port}/guard.test:{options.port}")
        )

        async def start(address: str) -> None:
            running = running_server(options=replace(options, host=address))
            services.append(await stack.enter_async_context(running))

        async def ask(times: int) -> None:
            for _ in range(times):
                await client.moderate(CONVERSATION, timeout_seconds=PATIENCE_SECONDS)

        await start(addresses[0])
        await start(addresses[1])
        await ask(20)
        await start(addresses[2])
        latest = services[2]
        await ask(5)
        before = _num_answered(latest)
        names.addresses = addresses
        async with asyncio.timeout(PATIENCE_SECONDS):
            while _num_answered(latest) == before:
                await ask(1)
        settled = _num_answered(latest)
        await ask(90)
        share = _num_answered(latest) - settled

    assert before == 0
    assert share >= 0.8 * 30


def _num_answered(service: Service) -> float:
    return service.counted("guard_requests_total", method="Moderate", code="OK")
