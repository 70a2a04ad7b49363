"""Every failure of the guard ends in a block, unless a policy lets just that pass."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from chat_gateway.chat import (
    ChoiceFinished,
    FinishReason,
    GatewayError,
    GuardUnavailable,
    InvalidChat,
    OutOfTime,
    TextDelta,
    TooBusy,
    ToolCallDelta,
    Unjudged,
)
from chat_gateway.exchange import Exchange
from chat_gateway.gate import Gate
from chat_gateway.guard_dialogue import send_and_read
from chat_gateway.observer import Action
from chat_gateway.outbox import Outbox
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.moderation import (
    DeadlineExceeded,
    InvalidRequest,
    JudgementFailed,
    NotReady,
    Overloaded,
    Phase,
    UnreadableVerdict,
)
from guard_service.stream import Checkpoint
from tests.chat_gateway.conversing import Journal, asking, converse, user
from tests.chat_gateway.fakes import (
    UNSAFE_PHRASE,
    FakeGuard,
    FakeGuardStream,
    GuardCall,
    ScriptedGenerator,
    Stall,
    answer,
    verdict,
)

STORY = "Once there was a fox. It ran and ran. Then it slept. " * 4
CLOSE = Checkpoints(first_characters=8, every_characters=16, max_every_characters=32)
STRICT = GatewayPolicy(checkpoints=CLOSE)
BOTH = frozenset(Phase)
MODES_THAT_BLOCK = (Mode.STRICT, Mode.BUFFER)

ABSENCE = (
    NotReady("draining"),
    Overloaded("full", retry_after_seconds=2.0),
    DeadlineExceeded("too late"),
)
FAILURES = (
    InvalidRequest("conversation.messages", "too long"),
    InvalidRequest("policy_id", "there is no such policy"),
    JudgementFailed("the server answered with the status UNAUTHENTICATED"),
    UnreadableVerdict("the server ended the stream without a final verdict"),
    RuntimeError("a private text"),
)
ERRORS = ABSENCE + FAILURES


def name(error: object) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", ERRORS, ids=name)
@pytest.mark.parametrize("mode", MODES_THAT_BLOCK)
@pytest.mark.parametrize("parallel", [False, True])
async def test_a_prompt_without_a_verdict_gets_an_error_and_nothing_else(error, mode, parallel):
    policy = GatewayPolicy(mode=mode, parallel_prompt_check=parallel)
    guard, journal = FakeGuard(prompt_error=error), Journal()

    seen = await converse(ScriptedGenerator(answer(STORY)), guard, policy, observer=journal)

    assert isinstance(seen.error, GuardUnavailable | TooBusy | InvalidChat)
    assert "private" not in str(seen.error)
    assert seen.events == []
    prompt_decisions = [d for d in journal.decisions if d.phase is Phase.PROMPT]
    reason = "InvalidChat" if isinstance(seen.error, InvalidChat) else name(error)
    assert [(d.action, d.reason) for d in prompt_decisions] == [(Action.BLOCKED, reason)]


async def test_the_guards_errors_become_the_gateways():
    async def error_for(error: Exception) -> GatewayError | None:
        return (await converse(ScriptedGenerator([]), FakeGuard(prompt_error=error))).error

    for field in ("conversation.messages", "request"):
        assert isinstance(await error_for(InvalidRequest(field, "too long")), InvalidChat)
    busy = await error_for(Overloaded("full", retry_after_seconds=2.0))
    assert isinstance(busy, TooBusy)
    assert busy.retry_after_seconds == 2.0
    assert type(await error_for(NotReady("draining"))) is GuardUnavailable
    assert type(await error_for(InvalidRequest("policy_id", "unknown"))) is GuardUnavailable


@pytest.mark.parametrize("error", ERRORS, ids=name)
@pytest.mark.parametrize("mode", MODES_THAT_BLOCK)
@pytest.mark.parametrize("num_good_checkpoints", [0, 1])
async def test_an_answer_without_a_verdict_is_blocked(error, mode, num_good_checkpoints):
    guard = FakeGuard(stream_error=error, num_good_checkpoints=num_good_checkpoints)
    policy = GatewayPolicy(mode=mode, checkpoints=CLOSE)
    generator = ScriptedGenerator([*answer(STORY)[:-1], Stall(0), *answer("End.")])

    seen = await converse(generator, guard, policy)

    if mode is Mode.BUFFER and num_good_checkpoints:
        assert seen.text() == STORY + "End."  # its only verdict is the final one
        return
    assert [(b.choice, b.verdict) for b in seen.blocks] == [(0, None)]
    covered = sum(len(e.text) for e in seen.of(TextDelta))
    assert covered == max((j.num_characters for j in seen.verdicts if j.choice == 0), default=0)
    assert seen.finishes == []


async def test_a_stream_that_cannot_be_opened_blocks():
    class ClosedGuard(FakeGuard):
        def stream(self, *_, **__):
            raise NotReady("no server is ready")

    seen = await converse(ScriptedGenerator(answer(STORY)), ClosedGuard(), STRICT)

    assert [block.verdict for block in seen.blocks] == [None]
    assert seen.text() == ""


@pytest.mark.parametrize("error", ERRORS, ids=name)
@pytest.mark.parametrize("fails_in", list(Phase))
@pytest.mark.parametrize("opens", [frozenset(), {Phase.PROMPT}, {Phase.RESPONSE}, BOTH], ids=len)
async def test_only_a_named_phase_fails_open_and_only_when_the_guard_is_absent(
    error, fails_in, opens
):
    in_prompt = fails_in is Phase.PROMPT
    guard = FakeGuard(
        prompt_error=error if in_prompt else None, stream_error=None if in_prompt else error
    )
    policy = GatewayPolicy(fail_open=frozenset(opens), checkpoints=CLOSE)
    journal = Journal()

    seen = await converse(ScriptedGenerator(answer(STORY)), guard, policy, observer=journal)

    passes = fails_in in opens and error in ABSENCE
    choice = None if in_prompt else 0
    assert seen.unjudged == ([Unjudged(fails_in, choice, name(error))] if passes else [])
    assert seen.text() == (STORY if passes else "")
    assert len(seen.finishes) == int(passes)
    assert (Action.UNJUDGED in [d.action for d in journal.decisions]) == passes


async def test_fail_open_never_passes_an_unsafe_verdict():
    policy = GatewayPolicy(fail_open=BOTH, checkpoints=CLOSE)

    unsafe_prompt = await converse(
        ScriptedGenerator([]), FakeGuard(), policy, request=asking(user(UNSAFE_PHRASE))
    )
    unsafe_answer = await converse(ScriptedGenerator(answer(UNSAFE_PHRASE)), FakeGuard(), policy)

    assert len(unsafe_prompt.blocks) == len(unsafe_answer.blocks) == 1


async def test_a_tool_call_after_the_guard_was_lost_still_comes_whole():
    script = [
        TextDelta(0, STORY),
        Stall(0),
        ToolCallDelta(0, 0, '{"a"', "c", "look"),
        ToolCallDelta(0, 0, ": 1}"),
        ChoiceFinished(0, FinishReason.TOOL_CALLS),
    ]
    policy = GatewayPolicy(fail_open=BOTH, checkpoints=CLOSE)

    seen = await converse(
        ScriptedGenerator(script), FakeGuard(stream_error=NotReady("down")), policy
    )

    assert seen.of(ToolCallDelta) == [ToolCallDelta(0, 0, '{"a": 1}', "c", "look")]


@pytest.mark.parametrize(
    "checkpoints",
    [
        [],
        [(0.01, 8, False)],
        [(0.01, 10_000, False)],
        [(0.01, 8, True)],
    ],
    ids=["silent", "no final verdict", "more than was sent", "final too early"],
)
async def test_a_guard_that_breaks_its_contract_passes_nothing_it_did_not_judge(checkpoints):
    class LyingStream(FakeGuardStream):
        async def checkpoints(self):
            await self._check_wanted.wait()
            for probability, num_characters, final in checkpoints:
                yield Checkpoint(verdict(probability), num_characters, final)

    class LyingGuard(FakeGuard):
        @asynccontextmanager
        async def stream(self, conversation, **_):
            yield LyingStream(self, GuardCall(conversation, "", "", None, streamed=True))

    seen = await converse(ScriptedGenerator(answer(STORY)), LyingGuard(), STRICT)

    assert [block.verdict for block in seen.blocks] == [None]
    assert seen.finishes == []
    assert len(seen.text()) <= 8


async def test_a_verdict_that_is_final_before_the_answer_is_blocks():
    class HastyStream(FakeGuardStream):
        async def checkpoints(self):
            await self._check_wanted.wait()
            yield Checkpoint(verdict(0.01), len(self._call.judged_text), final=True)

    class HastyGuard(FakeGuard):
        @asynccontextmanager
        async def stream(self, conversation, **_):
            yield HastyStream(self, GuardCall(conversation, "", "", None, streamed=True))

    script = [TextDelta(0, STORY), Stall(0.01), *answer("End.")]

    seen = await converse(ScriptedGenerator(script), HastyGuard(), STRICT)

    assert [block.verdict for block in seen.blocks] == [None]
    assert seen.text() == ""


async def test_a_guard_lost_after_its_final_verdict_is_not_missed():
    class LeavingStream(FakeGuardStream):
        async def checkpoints(self):
            async for checkpoint in super().checkpoints():
                yield checkpoint
            raise NotReady("restarting")

    class LeavingGuard(FakeGuard):
        @asynccontextmanager
        async def stream(self, conversation, **_):
            yield LeavingStream(self, GuardCall(conversation, "", "", None, streamed=True))

    script = [*answer(STORY), Stall(0.01), *answer(STORY, choice=1)]
    journal = Journal()

    seen = await converse(
        ScriptedGenerator(script),
        LeavingGuard(),
        request=asking(num_choices=2),
        observer=journal,
    )

    assert (seen.text(0), seen.text(1)) == (STORY, STORY)
    assert {d.action for d in journal.decisions} == {Action.PASSED}


async def test_the_reader_of_a_broken_stream_says_why_it_broke():
    async def send() -> None:
        raise JudgementFailed("the connection to the server cannot be used")

    async def read() -> None:
        await asyncio.sleep(0)
        raise NotReady("the server went away")

    with pytest.raises(NotReady):
        await send_and_read(send(), read())


async def test_text_that_cannot_be_sent_ends_the_talk_at_once():
    async def send() -> None:
        raise InvalidRequest("delta.text", "must not contain NUL (U+0000)")

    with pytest.raises(InvalidRequest):
        await send_and_read(send(), asyncio.sleep(1e6))


@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.ANNOTATE])
async def test_a_guard_out_of_time_with_the_request_ends_the_request_that_waits_for_it(mode):
    exchange = Exchange(
        request=asking(),
        conversation=(),
        policy=GatewayPolicy(mode=mode),
        request_id="r",
        deadline=time.monotonic(),
        observer=(journal := Journal()),
    )
    outbox = Outbox(silent=False)

    Gate(0, exchange, outbox).go_without_verdict(DeadlineExceeded("too late"))

    if mode is Mode.STRICT:
        with pytest.raises(OutOfTime):
            await outbox.get(exchange)
    else:
        assert isinstance(await outbox.get(exchange), Unjudged)
    assert [d.action for d in journal.decisions] == [
        Action.BLOCKED if mode is Mode.STRICT else Action.UNJUDGED
    ]
