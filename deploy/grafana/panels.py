"""What a panel shows, without how Grafana stores it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

HERE = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
RATE = "$__rate_interval"


class Unit(StrEnum):
    """Grafana's names of units."""

    NUMBER = "short"
    SHARE = "percentunit"
    SECONDS = "s"
    BYTES = "bytes"
    PER_SECOND = "cps"


class Kind(Enum):
    """How a panel draws its series."""

    LINES = "lines"
    STACKED = "stacked"
    STAT = "stat"
    HEATMAP = "heatmap"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its series are called, with `{{label}}` in place of labels.

    In `expr`, HERE stands for the choice of namespace, job and instance, and RATE for the time over
    which a rate is taken.
    """

    expr: str
    legend: str

    @property
    def promql(self) -> str:
        """The expression as Grafana takes it, with Grafana's variables."""
        return self.expr.replace("HERE", HERE).replace("RATE", RATE)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `width` is of 24 columns. A stat turns red from `alarm` on, or below it.

    `colours` are of series by their names; others get Grafana's.
    """

    title: str
    unit: Unit
    description: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    width: int = 8
    alarm: float | None = None
    alarm_below: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels."""

    title: str
    panels: tuple[Panel, ...]


def quantiles(metric: str, by: str = "", more: str = "") -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram of seconds, for each value of label `by`.

    `more` are further label matchers.
    """
    labels = f"{by}, le" if by else "le"
    chosen = f"HERE, {more}" if more else "HERE"
    rates = f"sum by ({labels}) (rate({metric}_bucket{{{chosen}}}[RATE]))"
    return tuple(
        Query(
            f"histogram_quantile({share}, {rates})",
            f"{{{{{by}}}}} {name}" if by else name,
        )
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )
