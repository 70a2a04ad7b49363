"""Figures equal hand-computed ones, and what is not defined is absent."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from guard_service.evaluation.curves import curves
from guard_service.evaluation.metrics import Confusion, Observation, figures

# Scores and labels, highest first: + - + -, flagged from 0.5 on.
FOUR = [
    Observation(positive=True, flagged=True, score=0.9),
    Observation(positive=False, flagged=True, score=0.8),
    Observation(positive=True, flagged=False, score=0.4),
    Observation(positive=False, flagged=False, score=0.1),
]


def test_figures_of_four_rows_are_those_computed_by_hand():
    found = figures(FOUR)

    assert found.confusion == Confusion(1, 1, 1, 1)
    assert found.precision.value == 1 / 2
    assert found.recall.value == 1 / 2
    assert found.f1.value == 1 / 2
    assert found.fpr.value == 1 / 2
    assert found.auroc.value == 3 / 4  # of four pairs, one is in the wrong order
    assert found.auprc.value == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_ties_count_half():
    tied = [Observation(positive, flagged=True, score=0.5) for positive in (True, False)]

    assert figures(tied).auroc.value == 1 / 2
    assert figures(tied).auprc.value == 1 / 2


def test_without_positives_only_the_false_positive_rate_is_defined():
    found = figures([row for row in FOUR if not row.positive])

    assert found.fpr.value == 1 / 2
    assert {found.f1, found.precision, found.recall, found.auroc, found.auprc} == {None}


def test_without_negatives_the_areas_and_the_false_positive_rate_are_not_defined():
    found = figures([row for row in FOUR if row.positive])

    assert (found.recall.value, found.precision.value) == (1 / 2, 1)
    assert {found.fpr, found.auroc, found.auprc} == {None}


def test_without_rows_nothing_is_defined():
    found = figures([])

    assert found.confusion == Confusion(0, 0, 0, 0)
    assert {found.f1, found.recall, found.fpr, found.auroc, found.auprc} == {None}


def test_an_interval_holds_its_figure_and_is_the_same_every_time():
    random = np.random.default_rng(1)
    rows = [
        Observation(bool(label), flagged=bool(score > 0.5), score=float(score))
        for label, score in zip(random.random(200) < 0.4, random.random(200), strict=True)
    ]

    found = figures(rows)

    for estimate in (found.f1, found.precision, found.recall, found.fpr, found.auroc, found.auprc):
        assert estimate.low < estimate.value < estimate.high
    assert found == figures(rows)


def test_an_interval_covers_what_a_normal_approximation_says():
    rows = [Observation(positive=True, flagged=i < 80, score=0.5) for i in range(100)]

    recall = figures(rows).recall

    assert (recall.low, recall.high) == pytest.approx((0.72, 0.88), abs=0.02)


def test_areas_equal_those_of_scikit_learn_also_with_ties_and_weights():
    random = np.random.default_rng(2)
    labels = random.random(500) < 0.3
    scores = np.round(random.random(500) + 0.3 * labels, 1)
    weights = random.integers(0, 4, size=(3, 500)).astype(float)

    found = curves(labels, scores, weights)

    for row, weighting in enumerate(weights):
        assert found.auroc[row] == pytest.approx(
            roc_auc_score(labels, scores, sample_weight=weighting)
        )
        assert found.auprc[row] == pytest.approx(
            average_precision_score(labels, scores, sample_weight=weighting)
        )
