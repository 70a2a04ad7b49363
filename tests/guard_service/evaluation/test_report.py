"""A report counts what was judged, and never takes a row without a verdict for a safe one."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from guard_service.evaluation.judging import Judged, judge_rows
from guard_service.evaluation.plot import plot_precision_recall
from guard_service.evaluation.report import report, score_lines
from guard_service.evaluation.rows import Row
from guard_service.evaluation.table import report_table
from guard_service.moderation import (
    CategoryScore,
    ConfigurationError,
    Coverage,
    JudgementFailed,
    Message,
    ModelInfo,
    Phase,
    Role,
    Timings,
    Usage,
    Verdict,
)
from guard_service.policy import default_policy

MODEL = ModelInfo("model", "1", "llama-guard-2")
POLICY = default_policy("llama-guard-2")


def row(text: str, *, unsafe: bool, codes: tuple[str, ...] | None = None, source: str = "a") -> Row:
    label = "unsafe" if unsafe else "safe"
    return Row(text, source, "user", (Message(Role.USER, text),), label, codes)


def verdict(unsafe_probability: float, code: str = "S1") -> Verdict:
    unsafe = unsafe_probability >= 0.5
    first = tuple(
        CategoryScore(each.code, each.name, 0.9 if each.code == code else 0.01)
        for each in POLICY.categories
    )
    listed = tuple(each for each in first if each.code == code) if unsafe else ()
    return Verdict(
        unsafe,
        unsafe_probability,
        listed,
        first,
        Phase.PROMPT,
        MODEL,
        POLICY.id,
        POLICY.version,
        POLICY.digest,
        Usage(3, 2, 1),
        Timings(0.0, 0.0, 0.0, 0.0),
        Coverage(1.0, 1),
    )


JUDGED = [
    Judged(row("1", unsafe=True, codes=("S1",)), verdict(0.9, "S1")),
    Judged(row("2", unsafe=True, codes=("S1",)), verdict(0.8, "S2")),
    Judged(row("3", unsafe=True), verdict(0.2)),
    Judged(row("4", unsafe=False), verdict(0.1)),
    Judged(row("5", unsafe=False, source="b"), None, "JudgementFailed: no verdict"),
]
REPORT = report(JUDGED, POLICY, MODEL, seconds=1.0)


def test_rows_without_a_verdict_are_counted_apart():
    assert (REPORT.overall.num_rows, REPORT.overall.num_unjudged) == (5, 1)
    assert REPORT.overall.figures.confusion.true_negatives == 1
    assert REPORT.errors == {"JudgementFailed: no verdict": 1}


def test_each_source_has_its_own_figures():
    assert set(REPORT.sources) == {"a", "b"}
    assert REPORT.sources["a"].figures.recall.value == pytest.approx(2 / 3)
    assert REPORT.sources["b"].figures.fpr is None


def test_a_category_is_measured_on_safe_rows_and_those_whose_categories_are_known():
    assert set(REPORT.categories) == {"S1"}
    group = REPORT.categories["S1"]

    assert (group.num_rows, group.num_unjudged) == (4, 1)
    assert group.figures.recall.value == 1 / 2


def test_the_first_category_is_right_if_it_is_one_of_the_rows():
    first = REPORT.sources["a"].first_category
    assert (first.value, first.low, first.high) == (0.5, 0.0, 1.0)
    assert REPORT.sources["b"].first_category is None

    right = Judged(row("6", unsafe=True, codes=("S9", "S2")), verdict(0.7, "S2"))
    assert report([*JUDGED, right], POLICY, MODEL, 1.0).overall.first_category.value == (
        pytest.approx(2 / 3)
    )


def test_a_row_that_is_not_flagged_or_of_unknown_categories_says_nothing_of_the_first_category():
    judged = [
        *JUDGED,
        Judged(row("6", unsafe=True, codes=("S9",)), verdict(0.4, "S1")),
        Judged(row("7", unsafe=True), verdict(0.9, "S1")),
        Judged(row("8", unsafe=False), verdict(0.9, "S1")),
    ]

    assert report(judged, POLICY, MODEL, 1.0).overall.first_category.value == 0.5


def test_categories_are_left_out_for_a_format_whose_codes_mean_something_else():
    other = default_policy("llama-guard-3")

    assert report(JUDGED, other, MODEL, seconds=1.0).categories == {}


def test_categories_are_reported_for_a_policy_written_for_another_format_of_these_hazards():
    compact = replace(POLICY, prompt_format="compact")

    assert report(JUDGED, compact, MODEL, seconds=1.0).categories == REPORT.categories


def test_the_json_says_what_judged_by_which_threshold():
    document = json.loads(REPORT.as_json())

    assert document["model"] == {"id": "model", "revision": "1", "prompt_format": "llama-guard-2"}
    assert document["policy"]["threshold"] == 0.5
    assert document["policy"]["digest"] == POLICY.digest
    assert document["overall"]["figures"]["f1"]["value"] == pytest.approx(4 / 5)
    assert document["sources"]["b"]["figures"]["auroc"] is None


def test_score_lines_hold_verdicts_and_no_text():
    first, *_, last = [json.loads(line) for line in score_lines(JUDGED)]

    assert set(first) == {
        "id", "source", "label", "unsafe", "unsafe_probability", "categories", "error",
    }  # fmt: skip
    assert (first["unsafe"], first["categories"]) == (True, ["S1"])
    assert (last["unsafe"], last["error"]) == (None, "JudgementFailed: no verdict")


def test_the_table_fits_a_narrow_terminal():
    console = Console(width=80, file=io.StringIO())
    console.print(report_table(REPORT))
    text = console.file.getvalue()

    assert "…" not in text
    assert "0.800" in text


def test_the_plot_is_a_picture(tmp_path):
    plot_precision_recall(tmp_path / "pr.png", JUDGED, "title")

    assert (tmp_path / "pr.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_written_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot write"):
        plot_precision_recall(tmp_path / "nowhere" / "pr.png", JUDGED, "title")


async def test_judging_keeps_the_order_and_catches_what_ends_without_a_verdict():
    async def moderate(conversation):
        if conversation[-1].content == "2":
            raise JudgementFailed("no verdict")
        return verdict(int(conversation[-1].content) / 10)

    finished = []
    judged = await judge_rows(
        [each.row for each in JUDGED],
        moderate,
        concurrency=2,
        on_judged=lambda: finished.append(None),
    )

    assert [each.row.id for each in judged] == ["1", "2", "3", "4", "5"]
    assert judged[0].verdict == verdict(0.1)
    assert (judged[1].verdict, judged[1].error) == (None, "JudgementFailed: no verdict")
    assert len(finished) == 5
