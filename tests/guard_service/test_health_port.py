"""The port of its own that probes ask: what it says and when, and that it does nothing else."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from guard_service.health_port import HealthPort
from guard_service.moderation import ConfigurationError
from guard_service.v1 import guard_pb2_grpc
from tests.probing import Prober, probing
from tests.serving import QUICK, asking, running_server, until

LOADING = {"live": True, "ready": False, "": False}
WELCOMING = {"live": True, "ready": True, "": True}
STUCK = {"live": False, "ready": False, "": False}


@contextmanager
def opened(*, stall_seconds: float = 600.0) -> Iterator[tuple[HealthPort, Prober]]:
    with (
        HealthPort("127.0.0.1", 0, stall_seconds=stall_seconds) as port,
        probing(port.port) as prober,
    ):
        yield port, prober


def test_it_is_live_and_not_ready_until_the_first_report_however_late():
    with opened(stall_seconds=0.01) as (_, prober):
        time.sleep(1.5)  # the age of reports is looked at twice a second

        assert prober.all() == LOADING


def test_it_says_what_was_reported():
    with opened() as (port, prober):
        port.report(live=True, ready=True)
        assert prober.all() == WELCOMING
        port.report(live=True, ready=False)
        assert prober.all() == LOADING
        port.report(live=False, ready=True)
        assert prober.all() == STUCK


def test_a_report_that_is_not_renewed_runs_out_and_the_next_one_counts_again():
    with opened(stall_seconds=0.01) as (port, prober):
        port.report(live=True, ready=True)
        assert prober.hears("live", serving=False)
        assert prober.all() == STUCK

    with opened() as (port, prober):
        port.report(live=False, ready=False)
        port.report(live=True, ready=True)
        assert prober.all() == WELCOMING


def test_an_unknown_name_is_not_found():
    with opened() as (_, prober), pytest.raises(grpc.RpcError) as caught:
        prober.serves("other")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_nothing_but_health_is_offered():
    with opened() as (_, prober):
        guard = guard_pb2_grpc.GuardServiceStub(prober.channel)
        with pytest.raises(grpc.RpcError) as refused:
            guard.Moderate(asking("hello"), timeout=60)
        reflection = reflection_pb2_grpc.ServerReflectionStub(prober.channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as hidden:
            list(reflection.ServerReflectionInfo(iter([question]), timeout=60))

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert hidden.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_port_in_use_is_a_wrong_configuration():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        port = HealthPort("127.0.0.1", number, stall_seconds=1)
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{number}: Address already in use"):
            port.__enter__()


def test_closed_it_answers_nobody():
    with opened() as (port, _):
        number = port.port

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number))


# These probe with a blocking client on the event loop's own thread: while it waits for its answer
# the loop stands still, and whatever answers does so without the loop.


async def test_a_guard_is_probed_while_its_event_loop_stands_still():
    with opened() as (port, prober):
        async with running_server(health_port=port, welcome=False) as service:
            assert prober.all() == LOADING
            await service.server.welcome()
            assert prober.all() == WELCOMING
            await service.server.drain()
            assert prober.all() == LOADING


async def test_a_guard_whose_event_loop_is_stuck_for_long_is_not_live_until_it_turns_again():
    with opened(stall_seconds=3) as (port, prober):
        async with running_server(health_port=port) as service:
            assert prober.hears("live", serving=False)
            assert prober.all() == STUCK
            await service.server._health.update()
            assert prober.all() == WELCOMING


async def test_a_guard_without_progress_is_not_live_though_its_event_loop_turns():
    with opened() as (port, prober):
        slow = replace(QUICK, stall_seconds=0.05)
        async with running_server(options=slow, health_port=port) as service:
            service.engine.hold()
            call = service.stub.Moderate(asking("hello"))
            await service.engine.until_busy()
            await until(lambda: service.batcher.seconds_since_progress > slow.stall_seconds)
            await service.server._health.update()
            assert prober.all() == STUCK
            service.engine.release()
            await call
            await service.server._health.update()
            assert prober.all() == WELCOMING
