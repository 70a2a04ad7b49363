"""Areas under ROC and precision-recall curves, for many weightings of the same rows at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curves:
    """Cumulative counts of true and false positives, one row per weighting.

    Columns are the distinct scores, highest first: the counts at the threshold of that score.
    """

    true_positives: Floats
    false_positives: Floats

    @property
    def recall(self) -> Floats:
        """Share of the positives found at each threshold; nan without positives."""
        return _ratio(self.true_positives, self.true_positives[:, -1:])

    @property
    def precision(self) -> Floats:
        """Share of positives among what is flagged at each threshold."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def auroc(self) -> Floats:
        """Chance that a positive scores above a negative, ties counting half; nan if undefined."""
        false_positive_rate = _ratio(self.false_positives, self.false_positives[:, -1:])
        recall = self.recall
        steps = np.diff(false_positive_rate, axis=1, prepend=0.0)
        heights = recall - np.diff(recall, axis=1, prepend=0.0) / 2
        return np.asarray((steps * heights).sum(axis=1))

    @property
    def auprc(self) -> Floats:
        """Average precision: the mean of precision over the steps of recall; nan if undefined."""
        steps = np.diff(self.recall, axis=1, prepend=0.0)
        precision = np.nan_to_num(self.precision)
        area = np.asarray((steps * precision).sum(axis=1))
        return np.where(self.false_positives[:, -1] > 0, area, np.nan)


def curves(labels: NDArray[np.bool_], scores: Floats, weights: Floats) -> Curves:
    """Curves of `scores` against `labels`, for each row of `weights` (weightings x items)."""
    order = np.argsort(-scores, kind="stable")
    labels, scores, weights = labels[order], scores[order], weights[:, order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    return Curves(
        true_positives=np.cumsum(weights * labels, axis=1)[:, ends],
        false_positives=np.cumsum(weights * ~labels, axis=1)[:, ends],
    )


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan))
