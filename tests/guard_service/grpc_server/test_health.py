"""What the health service says, and when."""

import asyncio
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from guard_service.grpc_server.health import LIVE, OVERALL, READY
from tests.serving import QUICK, Service, asking, failure_of, running_server, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(service: Service, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(service.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    return response.status


async def healths_of(service: Service) -> dict[str, bool]:
    return {name: await health_of(service, name) == SERVING for name in (OVERALL, LIVE, READY)}


async def heard(service: Service, status: int) -> None:
    """Wait until the service says this of its liveness."""
    stub = health_pb2_grpc.HealthStub(service.channel)
    async for response in stub.Watch(health_pb2.HealthCheckRequest(service=LIVE)):
        if response.status == status:
            return


async def test_a_welcoming_service_is_live_and_ready():
    async with running_server() as service:
        assert await healths_of(service) == {OVERALL: True, LIVE: True, READY: True}
        assert service.counted("guard_ready") == 1


async def test_a_starting_service_is_live_but_not_ready():
    async with running_server(welcome=False) as service:
        assert await healths_of(service) == {OVERALL: False, LIVE: True, READY: False}
        assert service.counted("guard_ready") == 0


async def test_an_unknown_name_is_not_found():
    async with running_server() as service:
        error = await failure_of(health_of(service, "other"))

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert service.counted("guard_requests_total", method="Check", code="NOT_FOUND") == 1


async def test_health_is_answered_while_the_model_is_busy():
    async with running_server() as service:
        service.engine.hold()
        busy = asyncio.ensure_future(_moderate(service))
        await service.engine.until_busy()

        assert await healths_of(service) == {OVERALL: True, LIVE: True, READY: True}
        service.engine.release()
        await busy


async def test_work_without_progress_ends_liveness_and_progress_brings_it_back():
    async with running_server(options=replace(QUICK, stall_seconds=0.05)) as service:
        service.engine.hold()
        stuck = asyncio.ensure_future(_moderate(service))
        await service.engine.until_busy()
        await heard(service, NOT_SERVING)
        during = await healths_of(service)
        service.engine.release()
        await stuck
        await heard(service, SERVING)

        assert during == {OVERALL: False, LIVE: False, READY: False}
        assert await healths_of(service) == {OVERALL: True, LIVE: True, READY: True}


async def test_an_idle_service_stays_live():
    async with running_server(options=replace(QUICK, stall_seconds=0.01)) as service:
        await service.stub.Moderate(asking("hello"))
        await asyncio.sleep(0.05)
        await service.server._health.update()

        assert await healths_of(service) == {OVERALL: True, LIVE: True, READY: True}


async def test_watchers_hear_of_the_drain_before_the_lame_duck_time_is_over():
    async with running_server(options=replace(QUICK, lame_duck_seconds=2)) as service:
        watching = health_pb2_grpc.HealthStub(service.channel).Watch(
            health_pb2.HealthCheckRequest(service=READY)
        )
        before = await watching.read()
        draining = asyncio.create_task(service.server.drain())
        after = await watching.read()
        response = await service.stub.Moderate(asking("still served"))
        await draining

    assert (before.status, after.status) == (SERVING, NOT_SERVING)
    assert response.verdict.HasField("unsafe")
    assert service.server.is_drained


async def _moderate(service: Service) -> object:
    return await service.stub.Moderate(asking("hello"))


@pytest.mark.parametrize("name", [LIVE, READY, OVERALL])
async def test_health_is_answered_while_the_queue_is_full(name: str):
    async with running_server(max_queue_items=1) as service:
        service.engine.hold()
        running = asyncio.ensure_future(_moderate(service))
        await service.engine.until_busy()
        queued = asyncio.ensure_future(_moderate(service))
        await until(lambda: service.batcher.num_queued_items == 1)

        assert await health_of(service, name) == SERVING
        service.engine.release()
        await asyncio.gather(running, queued)
