"""A data report as a table for people."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from guard_service.policy import Policy
from guard_service.tuning.data_report import Balance, DataReport, Groups

_MAX_SOURCES = 12


def data_table(report: DataReport, policy: Policy) -> Table:
    """All groups, of the sources the largest."""
    title = f"data digest {report.digest[:16]}\n{report.num_repeated} rows repeat an earlier one"
    table = Table(title=Text(title), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold")
    for heading in ("rows", "share", "unsafe", "safe", "unsafe share"):
        table.add_column(heading, justify="right", no_wrap=True)
    whole = report.rows.num_rows
    _add(table, "training rows", report.rows, whole)
    _add(table, "dev rows", report.dev, None)
    names = {each.code: f"{each.code} {each.name}" for each in policy.categories}
    named = {names.get(code, code): balance for code, balance in report.categories.items()}
    for heading, groups in (
        ("role", report.roles),
        ("category", named),
        ("turns", report.turns),
        ("characters", report.characters),
        ("source", _largest(report.sources)),
    ):
        table.add_section()
        for name, balance in groups.items():
            _add(table, f"{heading} {name}", balance, whole)
    return table


def _largest(sources: Groups) -> Groups:
    if len(sources) <= _MAX_SOURCES:
        return sources
    items = list(sources.items())
    others = [balance for _, balance in items[_MAX_SOURCES - 1 :]]
    rest = Balance(sum(each.num_rows for each in others), sum(each.num_unsafe for each in others))
    return {**dict(items[: _MAX_SOURCES - 1]), f"({len(others)} others)": rest}


def _add(table: Table, name: str, balance: Balance, whole: int | None) -> None:
    table.add_row(
        Text(name),
        f"{balance.num_rows:,}",
        _share(balance.num_rows, whole),
        f"{balance.num_unsafe:,}",
        f"{balance.num_rows - balance.num_unsafe:,}",
        _share(balance.num_unsafe, balance.num_rows),
    )


def _share(part: int, whole: int | None) -> str:
    return f"{part / whole:.1%}" if whole else "-"
