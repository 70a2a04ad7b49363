"""Modes and the grey band: what a verdict does to the text that waits for it."""

import pytest

from chat_gateway.chat import Blocked, ChoiceFinished, Judged, TextDelta
from chat_gateway.gate import HELD_TOO_LONG
from chat_gateway.observer import Action
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.moderation import NotReady, Phase
from tests.chat_gateway.conversing import Journal, asking, converse, user
from tests.chat_gateway.fakes import (
    UNSAFE_PHRASE,
    FakeGuard,
    ScriptedGenerator,
    Stall,
    answer,
)
from tests.chat_gateway.virtual_time import run_virtually

STORY = "Once there was a fox. It ran and ran. Then it slept. " * 4
CLOSE = Checkpoints(first_characters=8, every_characters=16, max_every_characters=32)
DOUBTFUL, CLEAR = 0.4, 0.01


def grey(**settings) -> GatewayPolicy:
    return GatewayPolicy(checkpoints=CLOSE, hold_from=0.3, **settings)


def in_doubt_until(num_characters: int) -> FakeGuard:
    """A guard that is sure of longer answers only."""
    return FakeGuard(judge=lambda text: DOUBTFUL if len(text) < num_characters else CLEAR)


def test_doubtful_text_waits_and_is_released_by_a_clear_verdict():
    steps = answer(STORY)
    script = [*steps[:20], Stall(1.0), *steps[20:40], Stall(60.0), *steps[40:]]

    seen = run_virtually(converse(ScriptedGenerator(script), in_doubt_until(100), grey()))

    assert seen.text() == STORY
    probabilities = [
        event.verdict.unsafe_probability if isinstance(event, Judged) else None
        for event in seen.events[1:]
        if isinstance(event, Judged | TextDelta)
    ]
    first_text = probabilities.index(None)
    assert probabilities[:first_text].count(DOUBTFUL) >= 2
    assert probabilities[first_text - 1] == CLEAR


@pytest.mark.parametrize("releases", [False, True])
def test_doubt_ends_after_its_time(releases):
    text = "A doubtful word or two. "
    script = [TextDelta(0, text), Stall(60.0), *answer("The end, my friend.")]
    policy = grey(max_hold_seconds=10.0, release_after_hold=releases)
    journal = Journal()

    seen = run_virtually(
        converse(ScriptedGenerator(script), in_doubt_until(10_000), policy, observer=journal)
    )

    if releases:
        assert seen.text() == text + "The end, my friend."
        assert seen.blocks == []
    else:
        assert seen.text() == ""
        [block] = seen.blocks
        assert block.verdict is not None
        assert not block.verdict.unsafe
        assert journal.decisions[-1].reason == HELD_TOO_LONG


@pytest.mark.parametrize("releases", [False, True])
def test_doubt_ends_after_its_length(releases):
    policy = grey(max_hold_characters=60, release_after_hold=releases)
    script = [*answer(STORY)[:-1], Stall(3.0), *answer("End.")]

    seen = run_virtually(converse(ScriptedGenerator(script), in_doubt_until(10_000), policy))

    assert bool(seen.blocks) == (not releases)
    assert seen.text() == (STORY + "End." if releases else "")


def test_what_came_after_the_verdict_is_not_released_with_what_was_in_doubt():
    guard = FakeGuard(judge=lambda text: 0.9 if UNSAFE_PHRASE in text else DOUBTFUL)
    guard.check_seconds = 3.0
    text = "A doubtful word or two. "
    script = [TextDelta(0, text), Stall(12.0), *answer(UNSAFE_PHRASE, piece=20)]

    seen = run_virtually(converse(ScriptedGenerator(script), guard, grey(release_after_hold=True)))

    assert seen.text() == text
    assert len(seen.blocks) == 1


def test_doubt_after_a_release_has_its_own_bound():
    guard = FakeGuard(judge=lambda text: 0.9 if UNSAFE_PHRASE in text else DOUBTFUL)
    script = [
        TextDelta(0, "x" * 30),
        Stall(20.0),
        TextDelta(0, "y" * 40),
        Stall(3.0),
        *answer(UNSAFE_PHRASE, piece=20),
    ]
    policy = grey(max_hold_characters=60, release_after_hold=True)

    seen = run_virtually(converse(ScriptedGenerator(script), guard, policy))

    assert seen.text() == "x" * 30
    assert len(seen.blocks) == 1


def test_only_text_in_doubt_counts_against_the_bound_of_doubt():
    guard = FakeGuard(judge=lambda text: DOUBTFUL if 100 < len(text) < 150 else CLEAR)
    script = [
        TextDelta(0, "x" * 100),
        Stall(3.0),
        TextDelta(0, "y" * 30),
        Stall(3.0),
        *answer("z" * 50, piece=50),
    ]

    seen = run_virtually(converse(ScriptedGenerator(script), guard, grey(max_hold_characters=60)))

    assert DOUBTFUL in [judged.verdict.unsafe_probability for judged in seen.verdicts]
    assert seen.blocks == []
    assert seen.text() == "x" * 100 + "y" * 30 + "z" * 50


async def test_a_final_verdict_leaves_no_doubt():
    seen = await converse(ScriptedGenerator(answer(STORY[:30])), in_doubt_until(10_000), grey())

    assert seen.text() == STORY[:30]
    assert len(seen.finishes) == 1


def test_doubtful_text_is_not_let_pass_when_the_guard_is_lost():
    guard = in_doubt_until(10_000)
    guard.stream_error, guard.num_good_checkpoints = NotReady("down"), 1
    script = [TextDelta(0, STORY[:30]), Stall(1.0), *answer(STORY)]
    policy = grey(fail_open=frozenset(Phase))

    seen = run_virtually(converse(ScriptedGenerator(script), guard, policy))

    assert len(seen.blocks) == 1
    assert seen.text() == ""


def test_doubt_that_ended_with_the_guard_does_not_end_again():
    def judge(text: str) -> float:
        if "what do" in text:
            raise NotReady("down")
        return DOUBTFUL if text.startswith("Maybe") else CLEAR

    script = [
        TextDelta(0, "Maybe, or maybe not."),
        Stall(1.0),
        TextDelta(0, " Or what do we know?"),
        Stall(60.0),
        *answer(STORY, choice=1),
    ]
    journal = Journal()

    seen = run_virtually(
        converse(
            ScriptedGenerator(script),
            FakeGuard(judge=judge),
            grey(),
            request=asking(num_choices=2),
            observer=journal,
        )
    )

    assert [block.choice for block in seen.blocks] == [0]
    assert [d.action for d in journal.decisions] == [Action.PASSED, Action.BLOCKED, Action.PASSED]


def test_after_the_first_check_the_next_ones_come_further_apart():
    guard = FakeGuard()
    apart = Checkpoints(first_characters=8, every_characters=40, max_every_characters=40)
    script = [TextDelta(0, "x" * 8), Stall(0.5), TextDelta(0, "y" * 20), Stall(0.5), *answer("z")]

    run_virtually(converse(ScriptedGenerator(script), guard, GatewayPolicy(checkpoints=apart)))

    [stream] = guard.streams
    assert [each.num_characters for each in stream.checkpoints] == [8, 29]


async def test_a_buffered_answer_is_judged_once_and_comes_at_once():
    guard = FakeGuard()
    policy = GatewayPolicy(mode=Mode.BUFFER, checkpoints=CLOSE)

    seen = await converse(ScriptedGenerator(answer(STORY)), guard, policy)

    assert [len(stream.checkpoints) for stream in guard.streams] == [1]
    assert seen.verdicts[-1].num_characters == len(STORY)
    assert seen.text() == STORY


async def test_annotating_reports_verdicts_and_blocks_nothing():
    text, journal = STORY + UNSAFE_PHRASE, Journal()
    policy = GatewayPolicy(mode=Mode.ANNOTATE, checkpoints=CLOSE)

    seen = await converse(
        ScriptedGenerator(answer(text)),
        FakeGuard(),
        policy,
        request=asking(user(UNSAFE_PHRASE)),
        observer=journal,
    )

    assert seen.text() == text
    assert seen.blocks == []
    assert {judged.phase for judged in seen.verdicts if judged.verdict.unsafe} == set(Phase)
    assert journal.num_released == len(text)
    assert {d.action for d in journal.decisions} == {Action.REPORTED}


async def test_what_is_reported_is_the_first_unsafe_verdict():
    def judge(text: str) -> float:
        return 0.01 if len(text) not in range(50, 150) else 0.9 if len(text) < 100 else 0.8

    journal, policy = Journal(), GatewayPolicy(mode=Mode.SHADOW, checkpoints=CLOSE)

    await converse(
        ScriptedGenerator(answer(STORY)), FakeGuard(judge=judge), policy, observer=journal
    )

    decision = journal.decisions[-1]
    assert decision.action is Action.REPORTED
    assert decision.verdict is not None
    assert decision.verdict.unsafe_probability == 0.9


async def test_a_shadow_tells_the_client_nothing_and_the_observer_everything():
    text, journal = STORY + UNSAFE_PHRASE, Journal()
    policy = GatewayPolicy(mode=Mode.SHADOW, checkpoints=CLOSE)

    seen = await converse(ScriptedGenerator(answer(text)), FakeGuard(), policy, observer=journal)

    assert {type(event) for event in seen.events} == {TextDelta, ChoiceFinished}
    assert [d.action for d in journal.decisions] == [Action.PASSED, Action.REPORTED]


@pytest.mark.parametrize("mode", [Mode.ANNOTATE, Mode.SHADOW])
async def test_modes_that_never_block_pass_without_a_guard(mode):
    guard = FakeGuard(prompt_error=RuntimeError("gone"), stream_error=RuntimeError("gone"))
    journal = Journal()

    seen = await converse(
        ScriptedGenerator(answer(STORY)), guard, GatewayPolicy(mode=mode), observer=journal
    )

    assert seen.text() == STORY
    assert {each.phase for each in seen.unjudged} == (
        set(Phase) if mode is Mode.ANNOTATE else set()
    )
    assert {d.action for d in journal.decisions} == {Action.UNJUDGED}
    assert not any(isinstance(event, Blocked) for event in seen.events)


def test_annotated_text_does_not_wait_for_its_verdict():
    guard = FakeGuard(prompt_seconds=30.0, check_seconds=30.0)
    policy = GatewayPolicy(mode=Mode.ANNOTATE, checkpoints=CLOSE)

    seen = run_virtually(converse(ScriptedGenerator(answer(STORY)), guard, policy))

    first_verdict = next(i for i, e in enumerate(seen.events) if isinstance(e, Judged))
    assert seen.events.index(seen.finishes[0]) < first_verdict


def test_a_verdict_that_comes_as_doubt_ends_in_a_block_changes_nothing():
    class PunctualGuard(FakeGuard):
        """Its second verdict is there within the tick of the clock in which doubt ends."""

        async def pause(self, seconds):
            is_second = self.streams and self.streams[0].checkpoints
            await super().pause(seconds - 5e-10 if is_second else seconds)

    guard = PunctualGuard(
        judge=lambda text: DOUBTFUL if UNSAFE_PHRASE not in text else 0.9, check_seconds=1.0
    )
    script = [
        TextDelta(0, "A doubtful word or two."),
        Stall(10.0),
        *answer(UNSAFE_PHRASE, piece=20),
    ]
    journal = Journal()

    seen = run_virtually(
        converse(ScriptedGenerator(script), guard, grey(max_hold_seconds=10.0), observer=journal)
    )

    assert [block.choice for block in seen.blocks] == [0]
    assert [d.action for d in journal.decisions] == [Action.PASSED, Action.BLOCKED]
