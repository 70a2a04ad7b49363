"""An evaluation report as a table for people."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from guard_service.evaluation.metrics import Estimate
from guard_service.evaluation.report import GroupReport, Report

_FIGURES = ("f1", "precision", "recall", "fpr", "auroc", "auprc")


def report_table(report: Report) -> Table:
    """Overall, sources and categories; the intervals other than F1's are in the JSON."""
    title = f"{report.model.id}\npolicy {report.policy.id}, version {report.policy.version}"
    table = Table(title=Text(title), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold")
    for heading in (
        "unsafe\n/safe",
        "F1",
        "95 %",
        "prec.",
        "recall",
        "FPR",
        "AUROC",
        "AUPRC",
        "1st cat.",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    _add(table, "all", report.overall)
    table.add_section()
    for name, group in report.sources.items():
        _add(table, name, group)
    table.add_section()
    names = {category.code: category.name for category in report.policy.categories}
    for code, group in report.categories.items():
        _add(table, f"{code} {names[code]}", group)
    return table


def _add(table: Table, name: str, group: GroupReport) -> None:
    cells = group.figures.confusion
    num_unsafe = cells.true_positives + cells.false_negatives
    num_safe = cells.false_positives + cells.true_negatives
    f1, *others = (getattr(group.figures, figure) for figure in _FIGURES)
    values = (_value(f1), _interval(f1), *map(_value, others), _value(group.first_category))
    table.add_row(Text(name), f"{num_unsafe}/{num_safe}", *values)


def _value(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f}"


def _interval(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.low:.2f}-{estimate.high:.2f}"
