"""Clients that leave a stream at any moment: that is their right, and no fault of the gateway."""

import asyncio
import random

from chat_gateway.chat import ChoiceFinished, FinishReason, TextDelta
from chat_gateway.places import Places
from chat_gateway.v1 import chat_pb2_grpc
from tests.chat_gateway.fakes import FakeGuard, ScriptedGenerator, answer
from tests.chat_gateway.grpc_server.serving import asking_stream, running, until

NUM_CLIENTS = 400


async def _leave_a_stream(stub: "chat_pb2_grpc.ChatServiceAsyncStub", luck: random.Random) -> None:
    call = stub.ChatStream(asking_stream())
    for _ in range(luck.randrange(3)):
        await call.read()
    await asyncio.sleep(luck.choice((0, 0.0005, 0.001, 0.002)))
    call.cancel()


async def test_a_client_that_leaves_a_stream_is_no_fault():
    luck = random.Random(7)
    generator = ScriptedGenerator(answer("The fox ran on and on. " * 40))
    async with running(FakeGuard(), generator) as gateway:
        for _ in range(NUM_CLIENTS // 8):
            await asyncio.gather(*(_leave_a_stream(gateway.stub, luck) for _ in range(8)))

    assert gateway.counted("ChatStream", "CANCELLED") > NUM_CLIENTS / 4
    assert not gateway.counted("ChatStream", "INTERNAL")


async def test_a_client_that_stops_reading_is_not_waited_for():
    # More than the connection between the two can hold.
    script = [*[TextDelta(0, "x" * 30_000)] * 2000, ChoiceFinished(0, FinishReason.STOP)]
    generator, places = ScriptedGenerator(script), Places(1)
    async with running(FakeGuard(), generator, places=places, max_unread_seconds=1) as gateway:
        call = gateway.stub.ChatStream(asking_stream())
        await call.read()
        await asyncio.wait_for(generator.ended.wait(), 60)
        await until(lambda: places.num_taken == gateway.server.num_inside == 0)

    assert generator.num_steps < len(script)
    assert gateway.counted("ChatStream", "CANCELLED") == 1
