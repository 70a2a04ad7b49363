"""An evaluation report as a table for people."""

from rich.table import Table
from rich.text import Text

from guard_service.evaluation.metrics import Estimate
from guard_service.evaluation.report import GroupReport, Report

_FIGURES = ("f1", "precision", "recall", "fpr", "auroc", "auprc")


def report_table(report: Report) -> Table:
    """Overall, sources and categories, each figure with its 95 % interval."""
    table = Table(title=f"{report.model.id}, policy {report.policy.id} {report.policy.version}")
    for name in ("", "unsafe / safe", "unjudged", *(name.upper() for name in _FIGURES)):
        table.add_column(name, justify="left" if not name else "right")
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
    table.add_row(
        Text(name),
        f"{cells.true_positives + cells.false_negatives} / "
        f"{cells.false_positives + cells.true_negatives}",
        str(group.num_unjudged),
        *(_cell(getattr(group.figures, figure)) for figure in _FIGURES),
    )


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.value:.3f}\n{estimate.low:.2f}-{estimate.high:.2f}"
