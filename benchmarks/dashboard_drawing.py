"""How each kind of panel is drawn into its axes."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from benchmarks.dashboard_series import Filled, Series
from deploy.grafana.colours import BLUE, GREEN, ORANGE, PURPLE, RED, TEAL, YELLOW
from deploy.grafana.panels import Kind, Panel, Unit

TEXT, FAINT, GRID = "#24292f", "#59636e", "#e6e8eb"
SMALL = 8.0
_MORE = "#d36aa8 #7c8a2a #5f6caf #8ab8ff #ffbb78 #a3d39c #ca95e5 #f0d77b #8fd3d1 #c49c94 #f4b9d8"
WITHOUT_COLOUR = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, TEAL, *_MORE.split())

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """When each value is from, in seconds of Unix time; drawn in minutes from the first."""

    unix: Numbers

    def minutes(self, unix: float) -> float:
        """Where this time is drawn."""
        return (unix - float(self.unix[0])) / 60

    @property
    def in_minutes(self) -> Numbers:
        """Where all of them are drawn."""
        return np.asarray((self.unix - self.unix[0]) / 60)


def _lines(axes: Axes, filled: Filled, moments: Moments) -> None:
    for series, colour in _coloured(filled):
        axes.plot(moments.in_minutes, series.values, color=colour, linewidth=1.4, label=series.name)
    _scale(axes, filled.panel, max(map(_largest, filled.series)))


def _stacked(axes: Axes, filled: Filled, moments: Moments) -> None:
    below = np.zeros(len(moments.unix))
    for series, colour in _coloured(filled):
        above = below + np.nan_to_num(series.values)
        drawn = axes.fill_between(moments.in_minutes, below, above, label=series.name)
        drawn.set(color=colour, alpha=0.75, linewidth=0)
        below = above
    _scale(axes, filled.panel, float(below.max()))


def _stat(axes: Axes, filled: Filled, _: Moments) -> None:
    """The last value of each series above its name."""
    axes.set_axis_off()
    is_crowded = len(filled.series) > 2
    for number, series in enumerate(filled.series):
        left = number / len(filled.series)
        value = next(each for each in reversed(series.values) if not math.isnan(each))
        text = said(value, filled.panel.unit)
        colour = _alarming(filled.panel, value)
        size = 12 if is_crowded else 15
        axes.text(left, 1, text, fontsize=size, weight="bold", color=colour, va="top")
        name = series.name.replace("-", "-\n") if is_crowded else series.name
        axes.text(left, 0.52, name, fontsize=SMALL, color=FAINT, va="top", linespacing=1.1)


def _heatmap(axes: Axes, filled: Filled, moments: Moments) -> None:
    """Buckets of time from below to above, darker the more fell into them."""
    series = sorted(filled.series, key=lambda each: float(each.labels["le"]))
    ends = [float(each.labels["le"]) for each in series]
    counts = np.diff(np.array([np.zeros(len(moments.unix)), *(s.values for s in series)]), axis=0)
    used = np.flatnonzero(np.nansum(counts, axis=1) > 0)
    first, last = used[0], used[-1] + 1
    shown = np.where(counts > 0, counts, np.nan)[first:last]
    axes.pcolormesh(moments.in_minutes, np.arange(last - first) + 0.5, shown, cmap="Blues", vmin=0)
    axes.set_yticks(
        np.arange(last - first) + 1.0, [said(end, filled.panel.unit) for end in ends[first:last]]
    )
    axes.set_ylim(0, last - first)


DRAW: Mapping[Kind, Callable[[Axes, Filled, Moments], None]] = {
    Kind.LINES: _lines,
    Kind.STACKED: _stacked,
    Kind.STAT: _stat,
    Kind.HEATMAP: _heatmap,
}


def said(value: float, unit: Unit) -> str:
    """A number with its unit."""
    match unit:
        case Unit.SHARE:
            return f"{value * 100:.3g} %"
        case Unit.SECONDS if 0 < value < 1:
            return f"{value * 1000:.3g} ms"
        case Unit.SECONDS:
            return f"{value:.3g} s"
        case Unit.PER_SECOND:
            return f"{value:.3g}/s"
        case _:
            return f"{value:.4g}"


def _coloured(filled: Filled) -> Iterator[tuple[Series, str]]:
    others = cycle(WITHOUT_COLOUR)
    for series in filled.series:
        named = filled.panel.colours.get(series.name)
        yield series, named or next(others)


def _largest(series: Series) -> float:
    return max((value for value in series.values if not math.isnan(value)), default=0.0)


def _scale(axes: Axes, panel: Panel, largest: float) -> None:
    axes.set_ylim(0, 1.1 * largest or 1)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: said(value, panel.unit)))


def _alarming(panel: Panel, value: float) -> str:
    if panel.alarm is None:
        return TEXT
    return RED if (value < panel.alarm) is panel.alarm_below else GREEN
