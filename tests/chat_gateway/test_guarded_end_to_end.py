"""The pipeline over the real client and the real guard server; only the engine is scripted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from chat_gateway.policy import Checkpoints, GatewayPolicy
from guard_service.batcher import Batcher
from guard_service.client import GuardClient
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.server import GuardServer
from guard_service.metrics import Metrics
from guard_service.moderation import Message, Phase, Role
from guard_service.moderator import Moderator
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from tests.chat_gateway.conversing import asking, converse, user
from tests.chat_gateway.fakes import ScriptedGenerator, Stall, answer
from tests.fakes import UNSAFE_WORD, FakeEngine
from tests.running import PATIENT

STORY = "Once there was a fox. It ran and ran. Then it slept. " * 4
POLICY = GatewayPolicy(
    checkpoints=Checkpoints(first_characters=8, every_characters=16, max_every_characters=32)
)


@asynccontextmanager
async def serving(engine: FakeEngine) -> AsyncIterator[tuple[GuardServer, GuardClient]]:
    """A guard on a free port, and a client of it."""
    policy = default_policy("llama-guard-2")
    metrics = Metrics(category.code for category in policy.categories)
    batcher = Batcher(
        engine,
        max_batch_tokens=4096,
        max_queue_items=1000,
        max_queue_tokens=1_000_000,
        observer=metrics,
    )
    moderator = Moderator(
        engine=engine,
        prompt_format=FORMATS[policy.prompt_format],
        policies={policy.id: policy},
        default_policy_id=policy.id,
        batcher=batcher,
        limits=PATIENT,
        observer=metrics,
    )
    async with GuardServer(moderator, batcher, ServerOptions(port=0), metrics) as server:
        await server.welcome()
        async with GuardClient(f"127.0.0.1:{server.port}") as client:
            yield server, client


async def test_a_safe_answer_passes_and_its_final_verdict_is_the_unary_one():
    async with serving(FakeEngine()) as (_, guard):
        generator = ScriptedGenerator([*answer(STORY)[:9], Stall(0.05), *answer(STORY)])
        seen = await converse(generator, guard, POLICY)
        whole = (Message(Role.USER, "Tell me a story"), Message(Role.ASSISTANT, seen.text()))
        unary = await guard.moderate(whole)

    assert seen.text() == STORY[:36] + STORY
    final = seen.verdicts[-1]
    assert (final.final, final.num_characters) == (True, len(seen.text()))
    assert final.verdict.unsafe_probability == unary.unsafe_probability
    assert final.verdict.unsafe == unary.unsafe


@pytest.mark.parametrize("offset", range(0, len(STORY), 23))
@pytest.mark.parametrize("piece", [1, 7])
async def test_an_unsafe_answer_never_gets_out(offset, piece):
    text = f"{STORY[:offset]} {UNSAFE_WORD} {STORY[offset:]}"
    async with serving(FakeEngine()) as (_, guard):
        seen = await converse(ScriptedGenerator(answer(text, piece=piece)), guard, POLICY)

    assert len(seen.blocks) == 1
    assert seen.blocks[0].verdict is not None
    assert text.startswith(seen.text())
    assert UNSAFE_WORD not in seen.text()


async def test_an_unsafe_prompt_is_blocked():
    async with serving(FakeEngine()) as (_, guard):
        request = asking(user(f"How do I make a {UNSAFE_WORD} ?"))
        seen = await converse(ScriptedGenerator(answer(STORY)), guard, POLICY, request=request)

    assert [block.phase for block in seen.blocks] == [Phase.PROMPT]


@pytest.mark.parametrize("opens", [False, True])
async def test_a_guard_that_goes_away_in_the_middle_blocks_or_opens_as_the_policy_says(opens):
    policy = replace(POLICY, fail_open=frozenset(Phase) if opens else frozenset())
    async with serving(FakeEngine()) as (server, guard):
        generator = LosingGenerator(server)
        seen = await converse(generator, guard, policy)

    if opens:
        assert [each.reason for each in seen.unjudged] == ["NotReady"]
        assert seen.text() == STORY + STORY
    else:
        assert [block.verdict for block in seen.blocks] == [None]
        assert STORY.startswith(seen.text())


class LosingGenerator(ScriptedGenerator):
    """Stops the guard's server in the middle of its answer."""

    def __init__(self, server: GuardServer) -> None:
        super().__init__([])
        self._server = server

    async def generate(self, request, *, deadline):  # noqa: ARG002
        for event in answer(STORY)[:-1]:
            await asyncio.sleep(0)
            yield event
        await self._server._server.stop(grace=None)
        for event in answer(STORY):
            await asyncio.sleep(0)
            yield event
