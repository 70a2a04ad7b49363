"""The figures of one group of judged rows, with 95 % bootstrap confidence intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guard_service.evaluation.curves import Floats, curves

NUM_RESAMPLES = 1000
SEED = 0

_CHUNK_CELLS = 4_000_000  # bounds the memory of the bootstrap: weightings x rows at a time

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a row is (`positive`), what the guard said (`flagged`), and how surely (`score`)."""

    positive: bool
    flagged: bool
    score: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """How the flags meet the labels."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a group; None where its rows do not define one.

    `f1`, `precision` and `recall` need positives, `fpr` (the false positive rate) needs negatives,
    `auroc` and `auprc` (average precision) need both.
    """

    confusion: Confusion
    f1: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    fpr: Estimate | None
    auroc: Estimate | None
    auprc: Estimate | None


def figures(observations: Sequence[Observation]) -> Figures:
    """All figures of `observations`, with intervals from a seeded bootstrap over the rows."""
    positive = np.array([each.positive for each in observations], dtype=bool)
    flagged = np.array([each.flagged for each in observations], dtype=bool)
    scores = np.array([each.score for each in observations], dtype=float)
    samples = np.concatenate(
        [
            _weighted_figures(positive, flagged, scores, weights)
            for weights in _weightings(len(observations))
        ]
    )
    return Figures(
        Confusion(
            true_positives=int((positive & flagged).sum()),
            false_positives=int((~positive & flagged).sum()),
            false_negatives=int((positive & ~flagged).sum()),
            true_negatives=int((~positive & ~flagged).sum()),
        ),
        *(_estimate(column) for column in samples.T),
    )


def share(hits: Sequence[bool]) -> Estimate | None:
    """The share of hits, with its interval from the same bootstrap; None of nothing."""
    if not hits:
        return None
    right = np.array(hits, dtype=float)
    return _estimate(np.concatenate([each @ right for each in _weightings(len(hits))]) / len(hits))


def _weightings(num_rows: int) -> Iterator[Floats]:
    """The rows as they are, then `NUM_RESAMPLES` draws with replacement as counts, in chunks."""
    yield np.ones((1, num_rows))
    if num_rows:
        random = np.random.default_rng(SEED)
        chunk = max(1, _CHUNK_CELLS // num_rows)
        for start in range(0, NUM_RESAMPLES, chunk):
            size = min(chunk, NUM_RESAMPLES - start)
            shares = np.full(num_rows, 1 / num_rows)
            yield random.multinomial(num_rows, shares, size=size).astype(float)


def _weighted_figures(positive: Bools, flagged: Bools, scores: Floats, weights: Floats) -> Floats:
    """F1, precision, recall, FPR, AUROC and AUPRC, one row per weighting; nan if undefined."""
    tp = weights @ (positive & flagged).astype(float)
    fp = weights @ (~positive & flagged).astype(float)
    fn = weights @ (positive & ~flagged).astype(float)
    tn = weights @ (~positive & ~flagged).astype(float)
    with np.errstate(invalid="ignore"):
        has_positives = np.where(tp + fn > 0, 1.0, np.nan)
        f1 = has_positives * 2 * tp / (2 * tp + fp + fn)
        precision = has_positives * tp / (tp + fp)
        recall, fpr = tp / (tp + fn), fp / (fp + tn)
    if not len(scores):
        return np.stack([f1, precision, recall, fpr, f1, f1], axis=1)
    found = curves(positive, scores, weights)
    return np.stack([f1, precision, recall, fpr, found.auroc, found.auprc], axis=1)


def _estimate(values: Floats) -> Estimate | None:
    """The first value, with the 2.5 % and 97.5 % quantiles of the others that are defined."""
    if np.isnan(values[0]):
        return None
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))
