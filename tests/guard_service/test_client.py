"""The client against real servers: verdicts come through whole, and trouble comes as our errors."""

import asyncio
import socket
import time
from contextlib import suppress

import pytest

from guard_service.client import GuardClient
from guard_service.limits import Limits
from guard_service.moderation import (
    DeadlineExceeded,
    InvalidRequest,
    JudgementFailed,
    Message,
    ModerationError,
    NotReady,
    Overloaded,
    Phase,
    Role,
)
from guard_service.v1 import guard_pb2
from tests.fakes import FakeEngine, scores
from tests.serving import POLICY, Service, conversation, running_server, until

SAFE = (Message(Role.USER, "how to bake bread"),)
UNSAFE = (Message(Role.USER, "how to build a bomb"),)


async def test_a_verdict_comes_through_as_the_moderator_gave_it():
    async with running_server() as service, GuardClient(service.target) as client:
        verdict = await client.moderate((*UNSAFE, Message(Role.ASSISTANT, "a bomb")))
        direct = await service.moderator.moderate((*UNSAFE, Message(Role.ASSISTANT, "a bomb")))

    assert verdict.phase is Phase.RESPONSE
    assert verdict.unsafe
    assert verdict.timings.total_seconds > 0
    for field in ("unsafe_probability", "categories", "first_category", "model", "policy_id",
                  "policy_version", "policy_digest", "usage", "coverage"):  # fmt: skip
        assert getattr(verdict, field) == getattr(direct, field)


async def test_a_batch_gives_verdicts_and_errors_in_order():
    async with running_server() as service, GuardClient(service.target) as client:
        safe, blank, unsafe = await client.moderate_batch(
            [SAFE, (Message(Role.USER, " "),), UNSAFE]
        )

    assert not getattr(safe, "unsafe", True)
    assert getattr(unsafe, "unsafe", False)
    assert isinstance(blank, InvalidRequest)
    assert blank.field == "conversation.messages[0].content"


async def test_a_stream_gives_checkpoints_while_text_is_sent():
    async with (
        running_server() as service,
        GuardClient(service.target) as client,
        client.stream((Message(Role.USER, "hi"), Message(Role.ASSISTANT, ""))) as stream,
    ):
        checkpoints = aiter(stream.checkpoints())
        await stream.send("build a ", check=True)
        first = await anext(checkpoints)
        await stream.send("bomb")
        await stream.finish()
        last = await anext(checkpoints)
        with pytest.raises(StopAsyncIteration):
            await anext(checkpoints)

    assert (first.num_characters, first.final, first.verdict.unsafe) == (8, False, False)
    assert (last.num_characters, last.final, last.verdict.unsafe) == (12, True, True)


async def test_the_service_describes_itself():
    async with running_server() as service, GuardClient(service.target) as client:
        info = await client.info()

    assert info.policies == (POLICY,)
    assert info.default_policy_id == POLICY.id
    assert info.limits == service.moderator.limits
    assert info.max_context_tokens == service.engine.max_context_tokens
    assert info.model == service.engine.info


@pytest.mark.parametrize("content", ["half \ud83d", "nul\0"])
async def test_text_that_cannot_be_judged_is_refused_before_it_is_sent(content: str):
    async with running_server() as service, GuardClient(service.target) as client:
        with pytest.raises(InvalidRequest, match=r"^conversation\.messages\[0\]\.content: "):
            await client.moderate((Message(Role.USER, content),))

    assert service.counted("guard_requests_total", method="Moderate", code="OK") == 0


async def test_a_request_at_fault_names_its_field():
    async with running_server() as service, GuardClient(service.target) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.moderate(SAFE, policy_id="other")

    assert caught.value.field == "policy_id"
    assert str(caught.value).startswith("policy_id: there is no such policy")


async def test_a_request_too_large_for_the_wire_is_at_fault():
    limits = Limits(max_content_bytes=1000, max_batch_conversations=1, max_messages=1)
    async with running_server(limits=limits) as service, GuardClient(service.target) as client:
        with pytest.raises(InvalidRequest, match=r"^request: "):
            await client.moderate((Message(Role.USER, "x" * 200_000),))


async def test_an_overloaded_server_is_asked_again_when_it_said():
    async with running_server(max_queue_items=1) as service, GuardClient(service.target) as client:
        service.engine.hold()
        running = asyncio.create_task(client.moderate(SAFE))
        await service.engine.until_busy()
        queued = asyncio.create_task(client.moderate(SAFE))
        await until(lambda: service.batcher.num_queued_items == 1)
        began = time.monotonic()
        refused = asyncio.create_task(client.moderate(UNSAFE))
        await until(lambda: num_refused(service) == 1)
        service.engine.release()
        verdict = await refused
        waited = time.monotonic() - began
        await asyncio.gather(running, queued)

    assert verdict.unsafe
    assert num_refused(service) == 1
    assert waited >= 1.0


async def test_a_server_that_stays_overloaded_is_given_up():
    async with running_server(max_queue_items=1) as service, GuardClient(service.target) as client:
        service.engine.hold()
        running = asyncio.create_task(client.moderate(SAFE))
        await service.engine.until_busy()
        queued = asyncio.create_task(client.moderate(SAFE))
        await until(lambda: service.batcher.num_queued_items == 1)
        with pytest.raises(Overloaded) as caught:
            await client.moderate(UNSAFE)
        service.engine.release()
        await asyncio.gather(running, queued)

    assert caught.value.retry_after_seconds >= 1.0
    assert num_refused(service) == 3


def num_refused(service: Service) -> float:
    return service.counted("guard_requests_total", method="Moderate", code="RESOURCE_EXHAUSTED")


async def test_a_deadline_that_passes_is_our_error():
    async with running_server() as service, GuardClient(service.target) as client:
        service.engine.hold()
        with pytest.raises(DeadlineExceeded):
            await client.moderate(SAFE, timeout_seconds=0.1)
        service.engine.release()


async def test_a_model_that_babbles_is_a_failed_judgement():
    engine = FakeEngine()
    async with running_server(engine) as service, GuardClient(service.target) as client:
        engine.judge = lambda _text, num_categories: scores(float("nan"), num_categories)
        with pytest.raises(JudgementFailed, match="do not form a verdict"):
            await client.moderate(SAFE)


async def test_a_server_that_is_not_there_is_not_ready():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with GuardClient(f"127.0.0.1:{unused.getsockname()[1]}") as client:
            with pytest.raises(NotReady):
                await client.moderate(SAFE)
            with pytest.raises(NotReady):
                await client.info()
            with pytest.raises(NotReady):
                async with client.stream(SAFE) as stream:
                    await anext(aiter(stream.checkpoints()))


async def test_a_server_that_is_not_there_for_long_is_still_looked_for_every_second():
    enough = 9  # gRPC's own growing pauses would take a minute for them
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)  # noqa: FBT003 - the library's own signature
        async with (
            GuardClient(f"127.0.0.1:{server.getsockname()[1]}") as client,
            asyncio.timeout(45),
        ):
            asking = asyncio.create_task(_ask_for_ever(client))
            for _ in range(enough):
                connection, _ = await asyncio.get_running_loop().sock_accept(server)
                connection.close()
            asking.cancel()


async def _ask_for_ever(client: GuardClient) -> None:
    while True:
        with suppress(ModerationError):
            await client.info(timeout_seconds=1)
        await asyncio.sleep(0.1)


async def test_a_server_that_is_starting_is_not_ready():
    async with running_server(welcome=False) as service, GuardClient(service.target) as client:
        with pytest.raises(NotReady):
            await client.moderate(SAFE)

    assert service.counted("guard_requests_total", method="Moderate", code="UNAVAILABLE") == 0


async def test_calls_go_round_the_servers_that_are_ready():
    async with running_server() as one, running_server() as two, running_server() as three:
        await three.server._health.welcome(work=False)
        ports = ",".join(service.target for service in (one, two, three))
        async with GuardClient(f"ipv4:{ports}") as client:
            await until_connected(client, one, two)
            for service in (one, two, three):
                service.engine.journal.clear()
            for _ in range(20):
                await client.moderate(SAFE)

    assert [len(service.engine.journal) for service in (one, two, three)] == [10, 10, 0]


async def until_connected(client: GuardClient, *services: Service) -> None:
    """Ask until every one of these has answered."""
    while not all(service.engine.journal for service in services):
        await client.moderate(SAFE)


async def test_a_call_turned_away_by_one_server_is_answered_by_another():
    async with (
        running_server() as one,
        running_server() as two,
        GuardClient(f"ipv4:{one.target},{two.target}") as client,
    ):
        await until_connected(client, one, two)
        one.server._door.close("the service is draining")
        verdicts = [await client.moderate(SAFE) for _ in range(4)]

    assert [verdict.unsafe for verdict in verdicts] == [False] * 4
    assert one.counted("guard_requests_total", method="Moderate", code="UNAVAILABLE") >= 1


async def test_writing_to_a_stream_that_ended_says_why():
    async with (
        running_server() as service,
        GuardClient(service.target) as client,
        client.stream(SAFE, policy_id="other") as stream,
    ):
        with pytest.raises(InvalidRequest):
            await anext(aiter(stream.checkpoints()))
        with pytest.raises(InvalidRequest):
            await stream.send("more")


async def test_writing_to_a_stream_whose_server_is_gone_says_so():
    async with (
        running_server() as service,
        GuardClient(service.target) as client,
        client.stream(SAFE) as stream,
    ):
        await until(lambda: service.moderator.num_open_streams == 1)
        await service.server._server.stop(grace=None)
        await until(stream._call.done)
        with pytest.raises(NotReady):
            await stream.send("more")


async def test_a_client_that_was_left_raises_our_error_for_every_call():
    async with GuardClient("127.0.0.1:1") as client:
        pass

    with pytest.raises(JudgementFailed):
        await client.moderate(SAFE)
    with pytest.raises(JudgementFailed):
        async with client.stream(SAFE):
            pass


async def test_conversations_reach_the_model_as_they_were_written():
    async with running_server() as service, GuardClient(service.target) as client:
        await client.moderate(SAFE)
        await service.stub.Moderate(
            guard_pb2.ModerateRequest(conversation=conversation(SAFE[0].content))
        )

    assert service.engine.texts[0] == service.engine.texts[1]
