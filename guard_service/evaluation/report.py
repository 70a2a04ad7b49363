"""What an evaluation found: overall, by source, by category; as JSON and as score lines."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from guard_service.evaluation.judging import Judged
from guard_service.evaluation.metrics import (
    NUM_RESAMPLES,
    SEED,
    Estimate,
    Figures,
    Observation,
    figures,
    share,
)
from guard_service.moderation import ModelInfo, Verdict
from guard_service.policy import Policy, hazards_of

LABELLED_FORMAT = "llama-guard-2"
"""The rows' category codes are this format's; with other hazards they mean something else."""


@dataclass(frozen=True, slots=True)
class GroupReport:
    """Figures of one group of rows. Rows without a verdict are counted apart, in no figure.

    `first_category` is the share of rightly flagged rows of known categories whose likeliest first
    category is one of theirs; None where there is none, or the policy's codes mean something else.
    """

    num_rows: int
    num_unjudged: int
    figures: Figures
    first_category: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that an evaluation found.

    The threshold that is written is the policy's lowest: P(unsafe) from which a text can be unsafe.
    A category's score is P(unsafe) times the probability that the model lists it first; its rows
    are the safe ones and those whose categories are known.
    """

    model: ModelInfo
    policy: Policy
    overall: GroupReport
    sources: Mapping[str, GroupReport]
    categories: Mapping[str, GroupReport]
    errors: Mapping[str, int]
    seconds: float

    def as_json(self) -> str:
        """The report as a JSON document."""
        document = {
            "model": asdict(self.model),
            "policy": {
                "id": self.policy.id,
                "version": self.policy.version,
                "digest": self.policy.digest,
                "threshold": self.policy.lowest_threshold,
            },
            "confidence_intervals": {
                "share": 0.95,
                "method": "percentile bootstrap over rows",
                "num_resamples": NUM_RESAMPLES,
                "seed": SEED,
            },
            "seconds": round(self.seconds, 3),
            "errors": dict(self.errors),
            "overall": asdict(self.overall),
            "sources": {name: asdict(group) for name, group in self.sources.items()},
            "categories": {name: asdict(group) for name, group in self.categories.items()},
        }
        return json.dumps(document, indent=2) + "\n"


def report(judged: Sequence[Judged], policy: Policy, model: ModelInfo, seconds: float) -> Report:
    """The figures of all rows, of each source and of each category that occurs."""
    sources: dict[str, list[Judged]] = {}
    errors: dict[str, int] = {}
    for each in judged:
        sources.setdefault(each.row.source, []).append(each)
        if each.error is not None:
            errors[each.error] = errors.get(each.error, 0) + 1
    return Report(
        model=model,
        policy=policy,
        overall=_group(judged, policy),
        sources={name: _group(rows, policy) for name, rows in sorted(sources.items())},
        categories=dict(_categories(judged, policy)) if _speaks_labels(policy) else {},
        errors=errors,
        seconds=seconds,
    )


def score_lines(judged: Iterable[Judged]) -> Iterator[str]:
    """One JSON line per row: its id, label and verdict, never its text."""
    for each in judged:
        yield json.dumps(_score(each)) + "\n"


def _speaks_labels(policy: Policy) -> bool:
    return hazards_of(policy.prompt_format) == LABELLED_FORMAT


def _group(judged: Sequence[Judged], policy: Policy) -> GroupReport:
    observations = [
        Observation(each.row.unsafe, each.verdict.unsafe, each.verdict.unsafe_probability)
        for each in judged
        if each.verdict is not None
    ]
    return GroupReport(
        num_rows=len(judged),
        num_unjudged=len(judged) - len(observations),
        figures=figures(observations),
        first_category=share(list(_names_right(judged))) if _speaks_labels(policy) else None,
    )


def _names_right(judged: Iterable[Judged]) -> Iterator[bool]:
    for each in judged:
        if each.row.categories and each.verdict is not None and each.verdict.unsafe:
            first = max(each.verdict.first_category, key=lambda category: category.probability)
            yield first.code in each.row.categories


def _categories(judged: Sequence[Judged], policy: Policy) -> Iterator[tuple[str, GroupReport]]:
    known = [each for each in judged if not each.row.unsafe or each.row.categories is not None]
    for category in policy.categories:
        if any(category.code in (each.row.categories or ()) for each in known):
            observations = [
                _observe(category.code, each, each.verdict)
                for each in known
                if each.verdict is not None
            ]
            unjudged = len(known) - len(observations)
            yield category.code, GroupReport(len(known), unjudged, figures(observations))


def _observe(code: str, judged: Judged, verdict: Verdict) -> Observation:
    first = {category.code: category.probability for category in verdict.first_category}
    return Observation(
        positive=judged.row.unsafe and code in (judged.row.categories or ()),
        flagged=code in {category.code for category in verdict.categories},
        score=verdict.unsafe_probability * first[code],
    )


def _score(judged: Judged) -> dict[str, object]:
    line: dict[str, object] = {
        "id": judged.row.id,
        "source": judged.row.source,
        "label": judged.row.label,
        "unsafe": None,
        "unsafe_probability": None,
        "categories": None,
        "error": judged.error,
    }
    if judged.verdict is not None:
        line |= {
            "unsafe": judged.verdict.unsafe,
            "unsafe_probability": judged.verdict.unsafe_probability,
            "categories": [category.code for category in judged.verdict.categories],
        }
    return line
