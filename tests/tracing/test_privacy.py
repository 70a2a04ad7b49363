"""No text of a prompt or an answer is in a span, whatever becomes of the request."""

import logging

import pytest
from prometheus_client.openmetrics.exposition import generate_latest

from tests.fakes import UNSAFE_WORD, FakeEngine, flag_bombs
from tests.tracing.collector import Collector
from tests.tracing.services import CHAT, STREAM, Caller, running_services, saying

CANARY = "canary-7f3a"
ROOT = f"POST {CHAT}"


def judge(text: str, num_categories: int):
    if "raise" in text:
        raise ValueError(text)
    return flag_bombs(text, num_categories)


LIBRARIES = ("opentelemetry", "uvicorn", "fastapi", "starlette", "asyncio", "grpc")


@pytest.mark.parametrize("stream", [False, True])
async def test_no_text_is_in_spans_logs_or_metrics(
    collector: Collector,
    caplog,
    capsys,
    stream: bool,  # noqa: FBT001
):
    caplog.set_level(logging.DEBUG)
    answer = f"{CANARY} once. {CANARY} twice. " * 20
    engine = FakeEngine(judge)
    async with running_services(collector.endpoint, saying(answer), engine=engine) as services:
        first, callers = Caller(), [Caller() for _ in range(5)]
        await services.chat(CANARY, first, stream=stream)
        for content in (f"{CANARY} {UNSAFE_WORD}", f"{CANARY} raise", f"{CANARY}\0"):
            await services.chat(content, callers.pop(), stream=stream)
        await services.chat("Hello", callers.pop(), model=CANARY, stream=stream)
        await services.http.post(
            f"/v1/{CANARY}?{CANARY}={CANARY}",
            json={"model": CANARY},
            headers={"traceparent": callers.pop().traceparent, "user-agent": CANARY},
        )
        last = Caller()
        await services.chat(CANARY, last, stream=stream)
        for caller in (first, last):
            await collector.trace(caller.trace_id, ROOT, STREAM, STREAM)
        metrics = generate_latest(services.metrics.registry)
        metrics += generate_latest(services.guard.metrics.registry)

    libraries = [each.getMessage() for each in caplog.records if each.name.startswith(LIBRARIES)]
    logs = capsys.readouterr()
    assert len({each.trace_id for each in collector.spans}) == 7
    assert "model_not_found" not in collector.raw.decode(errors="replace")
    assert CANARY.encode() not in collector.raw + metrics
    assert CANARY not in logs.out + logs.err + "".join(libraries)
    assert "unexpected error" not in logs.out
