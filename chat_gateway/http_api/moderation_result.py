"""A verdict as OpenAI's moderation result, with what only Llama Guard says beside it."""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

from chat_gateway.http_api.category_names import OPENAI_KEYS, CategoryNames, openai_keys
from guard_service.moderation import CategoryScore, Verdict


class CategoryFacts(BaseModel):
    """A hazard category with a probability in 0..1."""

    code: str
    name: str
    probability: float


class GuardFacts(BaseModel):
    """The verdict in Llama Guard's own words; a code means nothing without the model.

    `unscored_keys` are keys of the maps that no category of the model speaks for; they are 0
    because there is nothing to say, not because the text is clean.
    """

    unsafe_probability: float
    violated: list[CategoryFacts]
    category_names: dict[str, str]
    unscored_keys: list[str]
    model: str
    revision: str
    policy_id: str
    policy_version: str
    policy_digest: str
    coverage: float


class ModerationResult(BaseModel):
    """OpenAI's result; a score is P(unsafe) times the category's probability given unsafe."""

    type: Literal["moderation_result"]
    model: str
    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]
    guard: GuardFacts


def moderation_result(
    verdict: Verdict, names: CategoryNames = CategoryNames.NATIVE
) -> ModerationResult:
    """The result of one verdict under Llama Guard's codes or OpenAI's keys."""
    violated, scores = _maps(verdict, names)
    scored = _keys(verdict.first_category, names)
    return ModerationResult(
        type="moderation_result",
        model=verdict.model.id,
        flagged=verdict.unsafe,
        categories=violated,
        category_scores=scores,
        category_applied_input_types={key: ["text"] if key in scored else [] for key in scores},
        guard=GuardFacts(
            unsafe_probability=verdict.unsafe_probability,
            violated=category_facts(verdict),
            category_names={each.code: each.name for each in verdict.first_category},
            unscored_keys=[key for key in scores if key not in scored],
            model=verdict.model.id,
            revision=verdict.model.revision,
            policy_id=verdict.policy_id,
            policy_version=verdict.policy_version,
            policy_digest=verdict.policy_digest,
            coverage=verdict.coverage.share,
        ),
    )


def category_facts(verdict: Verdict) -> list[CategoryFacts]:
    """The violated categories in the order the model lists them."""
    return [
        CategoryFacts(code=each.code, name=each.name, probability=each.probability)
        for each in verdict.categories
    ]


def _maps(verdict: Verdict, names: CategoryNames) -> tuple[dict[str, bool], dict[str, float]]:
    keys = OPENAI_KEYS if names is CategoryNames.OPENAI else _keys(verdict.first_category, names)
    violated = dict.fromkeys(keys, False)
    scores = dict.fromkeys(keys, 0.0)
    for category in (*verdict.first_category, *verdict.categories):
        for key in _keys((category,), names):
            scores[key] = max(scores[key], verdict.unsafe_probability * category.probability)
    for key in _keys(verdict.categories, names):
        violated[key] = True
    return violated, scores


def _keys(categories: Iterable[CategoryScore], names: CategoryNames) -> list[str]:
    if names is CategoryNames.NATIVE:
        return [category.code for category in categories]
    return [key for category in categories for key in openai_keys(category)]
