"""A collector that is away, silent or slow costs spans, and never a request."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from guard_service.tracing import collector as way_to_collector
from guard_service.tracing import export
from tests.tracing.services import STORY, Services, running_guard, running_services


@contextmanager
def dead_endpoint() -> Iterator[str]:
    """An address that is taken and refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def counted(services: Services, result: str) -> float:
    value = services.metrics.registry.get_sample_value(
        "gateway_trace_spans_total", {"result": result}
    )
    assert value is not None
    return value


async def until_counted(services: Services, result: str, number: int) -> None:
    async with asyncio.timeout(60):
        while counted(services, result) < number:  # noqa: ASYNC110 - a metric has no event
            await asyncio.sleep(0.01)


async def test_a_collector_that_is_away_costs_one_log_line(monkeypatch):
    monkeypatch.setattr(way_to_collector, "EXPORT_SECONDS", 0.2)
    with dead_endpoint() as endpoint, capture_logs() as lines:
        async with running_services(endpoint) as services:
            for _ in range(3):
                before = counted(services, "failed")
                response = await services.chat()
                assert response.json()["choices"][0]["message"]["content"] == STORY
                await until_counted(services, "failed", int(before) + 1)

    about_spans = [line for line in lines if "spans" in line["event"]]
    services_that_said_so = [line for line in about_spans if line["log_level"] == "warning"]
    assert about_spans == services_that_said_so
    assert len(about_spans) == 2  # the guard's, and the gateway's


async def test_a_collector_that_comes_back_is_told_of_and_used(collector, monkeypatch):
    monkeypatch.setattr(way_to_collector, "EXPORT_SECONDS", 0.2)
    collector.hold()
    with capture_logs() as lines:
        async with running_services(collector.endpoint) as services:
            await services.chat()
            await until_counted(services, "failed", 1)
            monkeypatch.setattr(way_to_collector, "EXPORT_SECONDS", 5.0)
            collector.release()
            while counted(services, "exported") == 0:
                await services.chat()
                await asyncio.sleep(0.05)

    said = [line["event"] for line in lines if "spans" in line["event"]]
    assert "spans do not reach the collector and are dropped" in said
    assert "spans reach the collector again" in said


async def test_a_silent_collector_fills_the_queue_and_holds_nothing_up(collector, monkeypatch):
    monkeypatch.setattr(export, "MAX_WAITING_SPANS", 8)
    monkeypatch.setattr(export, "MAX_BATCH_SPANS", 4)
    collector.hold()
    async with running_services(collector.endpoint) as services:
        for _ in range(5):
            response = await services.chat()
            assert response.status_code == 200

        assert counted(services, "queue_full") > 0
        assert counted(services, "exported") == 0


async def test_what_was_waiting_is_sent_before_the_end(collector):
    async with running_guard(collector.endpoint) as guard:
        pass

    assert (
        guard.metrics.registry.get_sample_value("guard_trace_spans_total", {"result": "failed"})
        == 0
    )


@pytest.mark.parametrize("service", ["guard", "gateway"])
async def test_sent_spans_are_counted(collector, service: str):
    async with running_services(collector.endpoint) as services:
        await services.chat()
        registry = (services.guard if service == "guard" else services).metrics.registry
        name = f"{service}_trace_spans_total"
        async with asyncio.timeout(60):
            while not registry.get_sample_value(name, {"result": "exported"}):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
