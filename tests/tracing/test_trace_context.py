"""Whose decision it is to record, and what is handed from hop to hop: W3C context, nothing else."""

import re

import grpc
import pytest
from prometheus_client.openmetrics.exposition import generate_latest

from guard_service.v1 import guard_pb2_grpc
from tests.serving import asking
from tests.tracing.collector import Collector
from tests.tracing.services import (
    CHAT,
    MODERATE,
    STORY,
    STREAM,
    Caller,
    Services,
    running_guard,
    running_services,
)

ROOT = f"POST {CHAT}"
BODY = {"model": "stub", "messages": [{"role": "user", "content": "Tell me a story"}]}


def handed_on(services: Services) -> dict[str, str]:
    """Headers of the question to the upstream."""
    [asked] = [each for each in services.upstream.asked if each.method == "POST"]
    return dict(asked.headers)


async def everything_sent(services: Services, collector: Collector) -> list[str]:
    """The names of all spans, once those of a recorded request, asked last, are there."""
    last = Caller()
    await services.chat(caller=last)
    await collector.trace(last.trace_id, ROOT, STREAM, STREAM)
    return [each.name for each in collector.spans if each.trace_id != last.trace_id]


async def test_a_request_that_is_not_sampled_is_recorded_nowhere_but_keeps_its_trace(collector):
    caller = Caller(sampled=False)
    async with running_services(collector.endpoint) as services:
        response = await services.chat(caller=caller)
        exposed = generate_latest(services.metrics.registry)
        exposed += generate_latest(services.guard.metrics.registry)
        headers = handed_on(services)
        names = await everything_sent(services, collector)

    assert response.json()["choices"][0]["message"]["content"] == STORY
    assert re.fullmatch(f"00-{caller.trace_id}-[0-9a-f]{{16}}-00", headers["traceparent"])
    assert names == []
    assert b"trace_id" not in exposed


async def test_the_ratio_decides_where_the_caller_does_not(collector):
    async with running_services(collector.endpoint, ratio=0.0) as services:
        await services.chat()
        headers = handed_on(services)
        names = await everything_sent(services, collector)

    flags = int(headers["traceparent"].rpartition("-")[2], 16)
    assert flags & 1 == 0
    assert names == []


@pytest.mark.parametrize(
    "traceparent",
    [
        "nonsense",
        "00-00000000000000000000000000000000-0123456789abcdef-01",
        "00-0123456789abcdef0123456789abcdef-0000000000000000-01",
        "ff-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
        "00-0123456789ABCDEF0123456789ABCDEF-0123456789abcdef-01",
        "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01-more",
        "x" * 10_000,
    ],
)
async def test_a_malformed_parent_is_ignored(collector, traceparent: str):
    async with running_services(collector.endpoint) as services:
        response = await services.http.post(CHAT, json=BODY, headers={"traceparent": traceparent})
        trace_id = handed_on(services)["traceparent"].split("-")[1]
        trace = await collector.trace(trace_id, ROOT, "chat")

    assert response.status_code == 200
    assert trace.one(ROOT).parent_id == ""
    assert trace_id != "0123456789abcdef0123456789abcdef"


async def test_two_parents_are_none(collector):
    headers = [("traceparent", Caller().traceparent), ("traceparent", Caller().traceparent)]
    async with running_services(collector.endpoint) as services:
        await services.http.post(CHAT, json=BODY, headers=headers)
        trace_id = handed_on(services)["traceparent"].split("-")[1]
        trace = await collector.trace(trace_id, ROOT)

    assert trace.one(ROOT).parent_id == ""


async def test_state_is_handed_on_and_baggage_is_not(collector):
    caller = Caller()
    headers = {
        "traceparent": caller.traceparent,
        "tracestate": "vendor=value,other=1",
        "baggage": "secret=value",
    }
    async with running_services(collector.endpoint) as services:
        await services.http.post(CHAT, json=BODY, headers=headers)
        upstream = handed_on(services)
        trace = await collector.trace(caller.trace_id, ROOT, STREAM, STREAM)

    assert upstream["tracestate"] == "vendor=value,other=1"
    assert "baggage" not in upstream
    assert trace.one(STREAM, "server").trace_state == "vendor=value,other=1"
    assert b"secret" not in collector.raw


async def test_a_state_too_long_for_the_guard_is_dropped_and_the_request_is_answered(collector):
    caller = Caller()
    state = ",".join(f"vendor{number}={'v' * 250}" for number in range(31))
    headers = {"traceparent": caller.traceparent, "tracestate": state}
    async with running_services(collector.endpoint) as services:
        response = await services.http.post(CHAT, json=BODY, headers=headers)
        trace = await collector.trace(caller.trace_id, ROOT, STREAM, STREAM)

    assert response.status_code == 200
    assert {each.trace_state for each in trace.spans} == {""}


async def test_requests_on_one_connection_are_traces_of_their_own(collector):
    async with running_services(collector.endpoint) as services:
        for _ in range(3):
            await services.chat()
        asked = [each.headers["traceparent"] for each in services.upstream.asked if each.body]
        trace_ids = {traceparent.split("-")[1] for traceparent in asked}
        for trace_id in trace_ids:
            trace = await collector.trace(trace_id, ROOT, STREAM, STREAM)
            assert trace.one(ROOT).parent_id == ""

    assert len(trace_ids) == 3


async def test_the_guard_takes_a_trace_from_any_grpc_client(collector):
    caller = Caller()
    async with (
        running_guard(collector.endpoint) as guard,
        grpc.aio.insecure_channel(guard.target) as channel,
    ):
        stub = guard_pb2_grpc.GuardServiceStub(channel)
        await stub.Moderate(
            asking("Hello"), metadata=(("traceparent", caller.traceparent), ("baggage", "a=b"))
        )
        trace = await collector.trace(caller.trace_id, MODERATE)

    assert trace.one(MODERATE).parent_id == caller.span_id


async def test_without_a_collector_nothing_is_handed_on():
    async with running_services(None) as services:
        response = await services.chat(caller=Caller())

        assert response.status_code == 200
        assert "traceparent" not in handed_on(services)
