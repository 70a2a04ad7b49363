"""Rows of filled panels on one page: the dashboard's order, titles and widths."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from benchmarks.dashboard_drawing import DRAW, FAINT, GRID, SMALL, TEXT, Moments
from benchmarks.dashboard_load import Span
from benchmarks.dashboard_series import Filled, FilledRow
from deploy.grafana.panels import Kind

TITLE = "Moderation: guard-service and chat-gateway"
COLUMNS = 24
SHADES = {"unsafe prompts": "#fdf1cf", "overload": "#fbd9bd", "guard stopped": "#dfe3e8"}

# All in inches.
WIDTH, MARGIN = 12.0, 0.15
HEAD, ROW_TITLE, PANEL_TITLE = 0.62, 0.36, 0.24
STAT, CHART, TICKS, LEGEND_LINE, GAP = 0.62, 1.3, 0.2, 0.155, 0.16
AXIS_LABELS, PANEL_GAP = 0.42, 0.12
LEGEND_MARK, LETTER = 0.34, 0.057

Line = Sequence[Filled]


def draw(
    rows: Sequence[FilledRow], when: Sequence[float], spans: Sequence[Span], note: str, path: Path
) -> None:
    """Draw every panel over the same time; spans with a shade are shaded in all of them."""
    lines = [(row, list(_lines(row))) for row in rows]
    height = HEAD + sum(ROW_TITLE + sum(_height(line) for line in of_row) for _, of_row in lines)
    figure = Figure(figsize=(WIDTH, height))
    page = _Page(figure, height)
    moments = Moments(np.asarray(when))
    shaded = [
        (moments.minutes(span.begin), moments.minutes(span.end), SHADES[span.name])
        for span in spans
        if span.name in SHADES
    ]
    page.head(note)
    for row, of_row in lines:
        page.row_title(row.title)
        for line in of_row:
            for filled, axes in page.place(line):
                DRAW[filled.panel.kind](axes, filled, moments)
                if filled.panel.kind is not Kind.STAT:
                    _finish(axes, filled, moments, shaded)
    figure.savefig(path, dpi=150, facecolor="white")


class _Page:
    """A figure that is filled from the top."""

    def __init__(self, figure: Figure, height: float) -> None:
        self._figure = figure
        self._height = height
        self._top = 0.0

    def head(self, note: str) -> None:
        self._text(MARGIN, 0.2, TITLE, size=13, weight="bold")
        self._text(MARGIN, 0.45, note, size=SMALL, color=FAINT)
        self._figure.legend(
            handles=[Patch(facecolor=colour, label=name) for name, colour in SHADES.items()],
            loc="upper right",
            bbox_to_anchor=(1 - MARGIN / WIDTH, 1 - 0.06 / self._height),
            ncols=len(SHADES),
            frameon=False,
            fontsize=SMALL,
        )
        self._top = HEAD

    def row_title(self, title: str) -> None:
        self._text(MARGIN, self._top + 0.17, title, size=11, weight="bold")
        self._top += ROW_TITLE

    def place(self, line: Line) -> Iterator[tuple[Filled, Axes]]:
        """Panels beside each other, with as much of the width as their columns say."""
        inch = (WIDTH - 2 * MARGIN) / sum(filled.panel.width for filled in line)
        left = MARGIN
        for filled in line:
            width = filled.panel.width * inch
            self._text(left, self._top + 0.1, filled.panel.title, size=9, weight="normal")
            yield filled, self._axes(filled, left, width - PANEL_GAP)
            left += width
        self._top += _height(line)

    def _axes(self, filled: Filled, left: float, width: float) -> Axes:
        is_stat = filled.panel.kind is Kind.STAT
        labels, height = (0.0, STAT) if is_stat else (AXIS_LABELS, CHART)
        bottom = self._height - self._top - PANEL_TITLE - height
        return self._figure.add_axes(
            (
                (left + labels) / WIDTH,
                bottom / self._height,
                (width - labels) / WIDTH,
                height / self._height,
            )
        )

    def _text(self, left: float, top: float, text: str, **style: str | float) -> None:
        drawn = self._figure.text(left / WIDTH, 1 - top / self._height, text, va="center")
        drawn.set(**{"color": TEXT, **style})


def _lines(row: FilledRow) -> Iterator[Line]:
    """Panels that stand beside each other, as Grafana lets them flow."""
    line: list[Filled] = []
    for filled in row.panels:
        if sum(each.panel.width for each in (*line, filled)) > COLUMNS:
            yield line
            line = []
        line.append(filled)
    yield line


def _height(line: Line) -> float:
    if all(filled.panel.kind is Kind.STAT for filled in line):
        return PANEL_TITLE + STAT + GAP
    longest = max(
        math.ceil(len(filled.series) / _legend_columns(filled))
        for filled in line
        if filled.panel.kind is not Kind.HEATMAP
    )
    return PANEL_TITLE + CHART + TICKS + longest * LEGEND_LINE + GAP


def _legend_columns(filled: Filled) -> int:
    longest = max(len(series.name) for series in filled.series)
    width = filled.panel.width * (WIDTH - 2 * MARGIN) / COLUMNS
    return int(width / (LEGEND_MARK + longest * LETTER))


def _finish(
    axes: Axes, filled: Filled, moments: Moments, shaded: Sequence[tuple[float, float, str]]
) -> None:
    """What all charts share: the times below, what happened, the names of the series."""
    for begin, end, colour in shaded:
        axes.axvspan(begin, end, color=colour, linewidth=0, zorder=0)
    axes.set_xlim(moments.in_minutes[0], moments.in_minutes[-1])
    axes.xaxis.set_major_locator(MultipleLocator(1))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda minute, _: f"{minute:g} min" if minute else "")
    )
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=FAINT, pad=2)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(GRID)
    if filled.panel.kind is Kind.HEATMAP:
        return
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.12, -TICKS / CHART),
        ncols=_legend_columns(filled),
        frameon=False,
        fontsize=SMALL,
        borderpad=0,
        handlelength=1.0,
        handleheight=0.6,
        handletextpad=0.4,
        columnspacing=1.0,
        labelspacing=0.25,
        labelcolor=TEXT,
    )


def _minute(minute: float, _: object) -> str:
    """The first one would touch the zero of the other axis."""
    return f"{minute:g} min" if minute else ""
