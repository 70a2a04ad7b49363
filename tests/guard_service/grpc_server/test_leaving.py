"""Clients that leave a stream at any moment: that is their right, and no fault of the service."""

import asyncio
import random

from guard_service.v1 import guard_pb2_grpc
from tests.serving import delta, opening, running_server

NUM_CLIENTS = 400


async def _leave_a_stream(
    stub: "guard_pb2_grpc.GuardServiceAsyncStub", luck: random.Random
) -> None:
    call = stub.ModerateStream()
    await call.write(opening())
    for _ in range(luck.randrange(4)):
        await call.write(delta("how to bake ", check=True))
        if luck.random() < 0.5:
            await call.read()
    if luck.random() < 0.5:
        await call.done_writing()
    await asyncio.sleep(luck.choice((0, 0.0005, 0.001, 0.002)))
    call.cancel()


async def test_a_client_that_leaves_a_stream_is_no_fault():
    luck = random.Random(7)
    async with running_server() as service:
        for _ in range(NUM_CLIENTS // 8):
            await asyncio.gather(*(_leave_a_stream(service.stub, luck) for _ in range(8)))

    ended = service.counted("guard_requests_total", method="ModerateStream", code="CANCELLED")
    assert ended > NUM_CLIENTS / 2
    assert not service.counted("guard_requests_total", method="ModerateStream", code="INTERNAL")
