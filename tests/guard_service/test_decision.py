"""Thresholds, categories and fail-closed sense checks."""

import math
from dataclasses import replace

import pytest

from guard_service.decision import decide, worst
from guard_service.engine.protocol import Scores
from guard_service.moderation import UnreadableVerdict
from guard_service.policy import Policy, PolicyCategory

POLICY = Policy(
    id="custom",
    version="1",
    prompt_format="llama-guard-2",
    categories=(
        PolicyCategory("WEAPONS", "Weapons", "", 0.5),
        PolicyCategory("HARM", "Self-harm", "", 0.2),
        PolicyCategory("PRIVACY", "Privacy", "", 0.9),
    ),
    descriptions_in_prompt=False,
)


def scores(p: float, *listed: int) -> Scores:
    return Scores(p, (0.7, 0.2, 0.1), tuple((i, 0.6) for i in listed))


def codes(decision) -> list[str]:
    return [category.code for category in decision.categories]


def test_numbers_are_mapped_through_the_policy_that_was_sent():
    decision = decide(scores(0.95, 2, 0), POLICY)

    assert codes(decision) == ["PRIVACY", "WEAPONS"]
    assert [c.code for c in decision.first_category] == ["WEAPONS", "HARM", "PRIVACY"]


@pytest.mark.parametrize(
    ("p", "listed", "violated"),
    [
        (0.1, (), []),
        (0.2, (1,), ["HARM"]),
        (0.3, (0,), []),
        (0.3, (0, 1), ["HARM"]),
        (0.5, (0,), ["WEAPONS"]),
        (0.8, (2,), []),
        (0.8, (2, 0), ["WEAPONS"]),
        (0.9, (2,), ["PRIVACY"]),
    ],
)
def test_a_listed_category_counts_from_its_own_threshold(p, listed, violated):
    decision = decide(scores(p, *listed), POLICY)

    assert codes(decision) == violated
    assert decision.unsafe is bool(violated)


@pytest.mark.parametrize(
    "senseless",
    [
        scores(math.nan),
        scores(math.inf),
        scores(-0.1),
        scores(1.5, 0),
        scores(0.9),
        scores(0.3),
        scores(0.9, 3),
        scores(0.9, -1),
        replace(scores(0.9), listed=((0, math.nan),)),
        replace(scores(0.9), listed=((0, 1.5),)),
        replace(scores(0.1), first_category=(0.5, 0.5)),
        replace(scores(0.1), first_category=(0.1, 0.1, 0.1)),
        replace(scores(0.1), first_category=(math.nan, 0.5, 0.5)),
    ],
)
def test_scores_without_sense_are_no_verdict(senseless):
    with pytest.raises(UnreadableVerdict):
        decide(senseless, POLICY)


def test_the_worst_window_counts_and_unsafe_beats_a_higher_score():
    over_no_threshold = decide(scores(0.85, 2), POLICY)
    over_a_low_one = decide(scores(0.3, 1), POLICY)

    assert worst([over_no_threshold, over_a_low_one, decide(scores(0.1), POLICY)]) is over_a_low_one
    assert worst([over_no_threshold, decide(scores(0.1), POLICY)]) is over_no_threshold
