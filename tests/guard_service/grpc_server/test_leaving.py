"""Clients that leave a stream at any moment: that is their right, and no fault of the service."""

import asyncio
import random
from dataclasses import replace

import grpc

from guard_service.v1 import guard_pb2_grpc
from tests.serving import QUICK, delta, opening, running_server, until

NUM_CLIENTS = 400
SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096))
"""Of a connection that is full after a few verdicts."""


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


async def test_a_client_that_stops_reading_is_not_waited_for():
    options = replace(QUICK, stream_idle_seconds=1.0)
    async with (
        running_server(options=options) as service,
        grpc.aio.insecure_channel(service.target, SMALL_WINDOW) as channel,
    ):
        call = guard_pb2_grpc.GuardServiceStub(channel).ModerateStream()
        await call.write(opening())
        writing = asyncio.create_task(_write_for_ever(call))
        await until(lambda: service.moderator.num_open_streams == 1)
        await until(lambda: service.moderator.num_open_streams == 0)
        writing.cancel()

    assert service.counted("guard_requests_total", method="ModerateStream", code="CANCELLED") == 1


async def _write_for_ever(call) -> None:
    """All of it is judged, and none of the verdicts read."""
    while True:
        await call.write(delta("and on ", check=True))
        await asyncio.sleep(0.01)
