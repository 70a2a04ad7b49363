"""When no verdict can be reached: overload, deadlines, callers who leave, a model that babbles."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import grpc
import pytest

from guard_service.engine.protocol import Judgement, Scores
from guard_service.moderation import JudgementFailed, ModerationError
from tests.fakes import FakeEngine, scores
from tests.serving import Service, asking, failure_of, running_server, until


async def occupy(service: Service) -> "asyncio.Task[object]":
    """Keep the engine busy until it is released."""
    service.engine.hold()
    busy = asyncio.ensure_future(_moderate(service, "first"))
    await service.engine.until_busy()
    return busy


async def _moderate(service: Service, text: str) -> object:
    return await service.stub.Moderate(asking(text))


async def test_a_full_queue_refuses_new_work_and_says_when_to_come_back():
    async with running_server(max_queue_items=1) as service:
        running = await occupy(service)
        queued = asyncio.create_task(_moderate(service, "second"))
        await until(lambda: service.batcher.num_queued_items == 1)
        error = await failure_of(service.stub.Moderate(asking("third")))
        waiting, allowed = (
            service.counted(f"guard_queue_{name}") for name in ("items", "max_items")
        )
        stuck_seconds = service.counted("guard_seconds_since_progress")
        service.engine.release()
        await asyncio.gather(running, queued)

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "(max_queue_items 1" in str(error.details())
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
    assert service.counted("guard_dropped_total", reason="shed") == 1
    assert (waiting, allowed) == (1, 1)
    assert stuck_seconds > 0
    assert service.counted("guard_seconds_since_progress") == 0


async def test_work_that_expires_in_the_queue_never_reaches_the_model():
    async with running_server() as service:
        running = await occupy(service)
        errors = await asyncio.gather(
            *(failure_of(service.stub.Moderate(asking("late"), timeout=1.0)) for _ in range(10))
        )
        await until(lambda: service.batcher.num_queued_items == 0)
        service.engine.release()
        await running
        await service.stub.Moderate(asking("after"))

    assert {error.code() for error in errors} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert not any("late" in text for text in service.engine.texts)
    assert any("after" in text for text in service.engine.texts)


async def test_work_whose_caller_left_never_reaches_the_model():
    async with running_server() as service:
        running = await occupy(service)
        call = service.stub.Moderate(asking("gone"))
        await until(lambda: service.batcher.num_queued_items == 1)
        call.cancel()
        await until(lambda: service.batcher.num_queued_items == 0)
        service.engine.release()
        await running
        await service.stub.Moderate(asking("after"))

    assert not any("gone" in text for text in service.engine.texts)
    assert service.counted("guard_dropped_total", reason="cancelled") == 1
    assert service.counted("guard_requests_total", method="Moderate", code="CANCELLED") == 1


async def test_a_caller_without_a_deadline_does_not_wait_for_ever():
    async with running_server() as service:
        service.moderator.limits = replace(service.moderator.limits, max_wait_seconds=0.05)
        running = asyncio.create_task(failure_of(service.stub.Moderate(asking("first"))))
        service.engine.hold()
        error = await running
        service.engine.release()

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "babble",
    [
        scores(float("nan"), 11),
        scores(0.9, 11, listed=(11,)),
        scores(0.9, 11),
        scores(1.5, 11, listed=(0,)),
        Scores(0.1, (float("inf"),) * 11),
        Scores(0.1, (1.0,)),
        Scores(0.1, ()),
        JudgementFailed("the model answered in verse"),
    ],
    ids=repr,
)
async def test_what_is_no_verdict_is_an_error_and_never_safe(babble: Scores | ModerationError):
    engine = FakeEngine()
    async with running_server(engine) as service:
        engine.judge = lambda _text, _num_categories: babble
        error = await failure_of(service.stub.Moderate(asking("hello")))

    assert error.code() is grpc.StatusCode.INTERNAL
    assert service.counted("guard_dropped_total", reason="failed") == 1
    assert service.counted("guard_requests_total", method="Moderate", code="INTERNAL") == 1


class Miscounting(FakeEngine):
    """Answers fewer prompts than it was asked about."""

    broken = False

    def score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        results = super().score(batch)
        return results[:-1] if self.broken else results


async def test_a_model_that_loses_count_is_an_error():
    engine = Miscounting()
    async with running_server(engine) as service:
        engine.broken = True
        error = await failure_of(service.stub.Moderate(asking("hello")))

    assert error.code() is grpc.StatusCode.INTERNAL


async def test_a_stray_cancellation_inside_is_an_error_and_not_silence():
    async with running_server() as service:

        async def cancelled(*_: object, **__: object) -> None:
            raise asyncio.CancelledError

        service.moderator.plan = cancelled
        error = await failure_of(service.stub.Moderate(asking("hello"), timeout=10))

    assert error.code() is grpc.StatusCode.INTERNAL


async def test_before_the_welcome_requests_are_turned_away():
    async with running_server(welcome=False) as service:
        error = await failure_of(service.stub.Moderate(asking("hello")))
        await service.server.welcome()
        response = await service.stub.Moderate(asking("hello"))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "the service is starting"
    assert response.verdict.HasField("unsafe")


async def test_every_error_names_its_request():
    async with running_server() as service:
        named = await failure_of(service.stub.Moderate(asking("", request_id="mine")))
        unnamed = await failure_of(service.stub.Moderate(asking("")))

    assert dict(named.trailing_metadata())["guard-request-id"] == "mine"
    assert len(dict(unnamed.trailing_metadata())["guard-request-id"]) == 32
