"""From scores to a decision: thresholds, violated categories, and which window counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from guard_service.engine.protocol import Scores
from guard_service.moderation import CategoryScore, UnreadableVerdict
from guard_service.policy import Policy


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy makes of one window's scores."""

    unsafe: bool
    unsafe_probability: float
    categories: tuple[CategoryScore, ...]
    first_category: tuple[CategoryScore, ...]


def decide(scores: Scores, policy: Policy) -> Decision:
    """A listed category is violated when P(unsafe) reaches its threshold; one is enough.

    With every threshold at 0.5 this is the model's own greedy answer. Numbers are mapped back to
    codes through the list that was sent, which is the policy's.

    Raises:
        UnreadableVerdict: if the scores do not make sense. They then mean nothing, not safe.
    """
    _require_sense(scores, policy)
    probability = scores.unsafe_probability
    violated = tuple(
        CategoryScore(category.code, category.name, share)
        for category, share in ((policy.categories[i], share) for i, share in scores.listed)
        if probability >= category.threshold
    )
    first = tuple(
        CategoryScore(category.code, category.name, share)
        for category, share in zip(policy.categories, scores.first_category, strict=True)
    )
    return Decision(bool(violated), probability, violated, first)


def worst(decisions: Sequence[Decision]) -> Decision:
    """The decision that counts for the whole text."""
    return max(decisions, key=lambda decision: (decision.unsafe, decision.unsafe_probability))


def _require_sense(scores: Scores, policy: Policy) -> None:
    num_categories = len(policy.categories)
    shares = [*scores.first_category, *(share for _, share in scores.listed)]
    sensible = (
        all(0.0 <= p <= 1.0 for p in (scores.unsafe_probability, *shares))  # so none is NaN
        and len(scores.first_category) == num_categories
        and math.isclose(sum(scores.first_category), 1.0, abs_tol=1e-3)
        and all(0 <= index < num_categories for index, _ in scores.listed)
        and (scores.unsafe_probability < policy.lowest_threshold or scores.listed)
    )
    if not sensible:
        raise UnreadableVerdict("the model's scores do not form a verdict")
