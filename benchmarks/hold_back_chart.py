"""Draws what `benchmarks.hold_back_cost` measured: unsafe text that got out against the wait.

Without arguments it draws the kept results into `docs/images/hold_back_cost.png`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import RESULTS

CHART = Path(__file__).parents[1] / "docs" / "images" / "hold_back_cost.png"
ACCENT, DARK, QUIET, FAINT = "#1f5fa8", "#3c4148", "#6b7078", "#e6e8eb"
DEFAULT = "default 40/160/640"
LABELS = {
    "buffer": ("whole answer judged first", (-11, 0), "right"),
    "tight 20/80/160": ("tight: from 20 characters", (-11, 0), "right"),
    DEFAULT: ("default: from 40", (-6, 12), "left"),
    "default, grey from 0.3": ("default, doubtful text waits", (11, -9), "left"),
    "wide 160/640/1280": ("wide: from 160", (11, 0), "left"),
}
"""By setting: what to call it, how far from its upper mark, and on which side of that."""
TICKS = (0, 0.1, 0.2, 0.5, 1, 2, 5)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Two marks per setting: what got out of unsafe answers, and of safe ones."""
    figure = Figure(figsize=(8.5, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(0, 100, "o", markersize=9, color=QUIET)
    axes.annotate("no hold-back", (0, 100), (12, -4), textcoords="offset points", color=DARK)
    for row in results["rows"]:
        _mark(axes, row)
    axes.set_title("What hold-back costs, and what it keeps in", loc="left", weight="bold")
    axes.set_xlabel("first text later by (seconds, median where any text got out)")
    axes.set_ylabel("characters that got out (%)")
    axes.set_ylim(-3, 108)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xlim(-0.015, 8)
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([], [], "o", color=QUIET, label="of unsafe answers (best at 0)")
    axes.plot([], [], "o", mfc="white", color=QUIET, label="of safe answers (best at 100)")
    axes.legend(loc="upper right", frameon=False)
    figure.supxlabel(_note(results), fontsize=8, color=QUIET)
    figure.savefig(path, dpi=130)


def _mark(axes: Axes, row: Mapping[str, Any]) -> None:
    name = row["checkpoints"]
    label, offset, side = LABELS[name]
    colour = ACCENT if name == DEFAULT else QUIET
    wait, unsafe, safe = (
        row[each] for each in ("first text later s", "unsafe text out %", "safe text out %")
    )
    axes.plot([wait, wait], [unsafe, safe], color=colour, linewidth=1)
    axes.plot(wait, unsafe, "o", markersize=9, color=colour)
    axes.plot(wait, safe, "o", markersize=9, mfc="white", color=colour)
    axes.annotate(
        label,
        (wait, max(unsafe, safe)),
        xytext=offset,
        textcoords="offset points",
        ha=side,
        va="center",
        color=ACCENT if name == DEFAULT else DARK,
        weight="bold" if name == DEFAULT else "normal",
    )


def _note(results: Mapping[str, Any]) -> str:
    return (
        f"{results['unsafe answers']} unsafe and {results['safe answers']} safe answers of GPTFuzz "
        f"to harmful questions, written at {results['tokens per second']:g} tokens/s; "
        f"a check takes {results['seconds per check'] * 1000:g} ms.\n"
        "The embedded guard can hardly tell their beginnings apart: "
        "the marks compare settings, and promise no protection."
    )


def main(
    results: Annotated[Path, typer.Argument()] = RESULTS / "hold_back_cost.json",
    chart: Annotated[Path, typer.Argument()] = CHART,
) -> None:
    """Read results, draw them."""
    draw(json.loads(results.read_text(encoding="utf-8")), chart)


if __name__ == "__main__":
    typer.run(main)
