"""Replies no sound server gives: the client takes none of them for a verdict."""

import grpc
import pytest

from guard_service.moderation import (
    JudgementFailed,
    Message,
    ModerationError,
    Role,
    UnreadableVerdict,
)
from guard_service.v1 import guard_pb2
from tests.scripted_server import ScriptedServicer, scripted_client, whole

SAFE = (Message(Role.USER, "how to bake bread"),)
UNSAFE = (Message(Role.USER, "how to build a bomb"),)


async def test_a_sound_verdict_is_accepted():
    async with scripted_client(ScriptedServicer(whole())) as client:
        verdict = await client.moderate(SAFE)

    assert not verdict.unsafe


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        guard_pb2.Verdict(),
        whole(unsafe=None),
        whole(unsafe_probability=None),
        whole(unsafe_probability=float("nan")),
        whole(unsafe_probability=-0.1),
        whole(unsafe_probability=1.1),
        whole(unsafe=True),
        whole(categories=[guard_pb2.Category(code="S1", probability=0.5)]),
        whole(first_category=None),
        whole(first_category=[guard_pb2.Category(code="S1", probability=float("nan"))]),
        whole(phase=guard_pb2.PHASE_UNSPECIFIED),
        whole(phase=99),
        whole(model=None),
        whole(policy=None),
        whole(coverage=None),
        whole(coverage=guard_pb2.Coverage(share=2.0, num_windows=1)),
        whole(coverage=guard_pb2.Coverage(share=0.99, num_windows=1)),
    ],
    ids=repr,
)
async def test_a_reply_that_is_no_whole_verdict_is_never_safe(verdict: guard_pb2.Verdict | None):
    servicer = ScriptedServicer(verdict)
    servicer.items = [guard_pb2.ModerateBatchItem(verdict=verdict)]
    servicer.checkpoints = [
        guard_pb2.ModerateStreamResponse(
            verdict=verdict, num_characters=len(SAFE[0].content), final=True
        )
    ]
    async with scripted_client(servicer) as client:
        with pytest.raises(UnreadableVerdict):
            await client.moderate(SAFE)
        assert [type(item) for item in await client.moderate_batch([SAFE])] == [UnreadableVerdict]
        async with client.stream(SAFE) as stream:
            await stream.finish()
            with pytest.raises(UnreadableVerdict):
                await anext(aiter(stream.checkpoints()))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0] != 0])
async def test_every_status_is_an_error_of_ours(code: grpc.StatusCode):
    servicer = ScriptedServicer()
    servicer.code = code
    async with scripted_client(servicer) as client:
        with pytest.raises(ModerationError):
            await client.moderate(SAFE)


@pytest.mark.parametrize("number", [-1, 0, 2, 5, 16, 17])
async def test_a_batch_item_with_a_strange_status_is_a_failed_judgement(number: int):
    servicer = ScriptedServicer()
    servicer.items = [guard_pb2.ModerateBatchItem(error=guard_pb2.Status(code=number))]
    async with scripted_client(servicer) as client:
        assert [type(item) for item in await client.moderate_batch([SAFE])] == [JudgementFailed]


async def test_a_batch_item_with_neither_verdict_nor_error_is_unreadable():
    servicer = ScriptedServicer()
    servicer.items = [guard_pb2.ModerateBatchItem()]
    async with scripted_client(servicer) as client:
        assert [type(item) for item in await client.moderate_batch([SAFE])] == [UnreadableVerdict]


async def test_a_batch_answered_in_part_is_unreadable():
    servicer = ScriptedServicer()
    servicer.items = [guard_pb2.ModerateBatchItem(verdict=whole())]
    async with scripted_client(servicer) as client:
        with pytest.raises(UnreadableVerdict, match="1 of 2"):
            await client.moderate_batch([SAFE, UNSAFE])


@pytest.mark.parametrize(
    ("num_characters", "final"),
    [(18, True), (17, False), (16, True)],
    ids=["covers more than was sent", "never ends", "ends early"],
)
async def test_a_stream_that_does_not_cover_what_was_sent_is_unreadable(
    num_characters: int, *, final: bool
):
    servicer = ScriptedServicer()
    servicer.checkpoints = [
        guard_pb2.ModerateStreamResponse(
            verdict=whole(), num_characters=num_characters, final=final
        )
    ]
    async with scripted_client(servicer) as client, client.stream(SAFE) as stream:
        await stream.finish()
        with pytest.raises(UnreadableVerdict):
            _ = [checkpoint async for checkpoint in stream.checkpoints()]


async def test_a_final_checkpoint_before_the_end_of_the_text_is_unreadable():
    class Hasty(ScriptedServicer):
        async def ModerateStream(self, request_iterator, context):  # noqa: N802, ARG002
            await anext(request_iterator)
            yield self.checkpoints[0]

    servicer = Hasty()
    servicer.checkpoints = [
        guard_pb2.ModerateStreamResponse(verdict=whole(), num_characters=17, final=True)
    ]
    async with scripted_client(servicer) as client, client.stream(SAFE) as stream:
        with pytest.raises(UnreadableVerdict, match="final before the text ended"):
            await anext(stream.checkpoints())
