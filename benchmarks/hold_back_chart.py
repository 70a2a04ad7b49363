"""Draws what `benchmarks.hold_back_cost` measured: unsafe text that got out against the wait.

Without arguments it draws the kept results into `docs/images/hold_back_cost.png`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure

from benchmarks.report import RESULTS

CHART = Path(__file__).parents[1] / "docs" / "images" / "hold_back_cost.png"
ACCENT, QUIET = "#1f5fa8", "#8a8f98"
LABELS = {
    "buffer": ("whole answer judged first", (-10, 12), "right"),
    "tight 20/80/160": ("tight: first check after 20 characters", (10, 12), "left"),
    "default 40/160/640": ("default: after 40", (10, -16), "left"),
    "default, grey from 0.3": ("default, doubtful text waits", (10, -4), "left"),
    "wide 160/640/1280": ("wide: after 160", (10, 6), "left"),
    "annotate (no hold-back)": ("no hold-back", (10, -4), "left"),
}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """One point per setting."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row in results["rows"]:
        point = (row["first text later s"], row["unsafe characters out %"])
        label, offset, side = LABELS[row["checkpoints"]]
        is_default = row["checkpoints"] == "default 40/160/640"
        axes.plot(*point, "o", markersize=9, color=ACCENT if is_default else QUIET)
        axes.annotate(
            label,
            point,
            xytext=offset,
            textcoords="offset points",
            ha=side,
            weight="bold" if is_default else "normal",
        )
    axes.set_title("What hold-back costs, and what it stops", loc="left", weight="bold")
    axes.set_xlabel("first text later by (median over safe answers, seconds)")
    axes.set_ylabel("text of unsafe answers that got out (% of characters)")
    axes.set_ylim(0, 108)
    axes.set_xscale("symlog", linthresh=0.25)
    ticks = (0, 0.25, 0.5, 1, 2, 4, 8)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(-0.05, 8)
    axes.grid(color="#e6e8eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.text(0.012, 0.03, "↙ better", transform=axes.transAxes, color=ACCENT, weight="bold")
    figure.supxlabel(_note(results), fontsize=8, color=QUIET)
    figure.savefig(path, dpi=130)


def _note(results: Mapping[str, Any]) -> str:
    return (
        f"{results['unsafe answers']} unsafe and {results['safe answers']} safe answers of GPTFuzz "
        f"written at {results['tokens per second']:g} tokens/s; a check takes "
        f"{results['seconds per check'] * 1000:g} ms; embedded guard, which misses much"
    )


def main(
    results: Annotated[Path, typer.Argument()] = RESULTS / "hold_back_cost.json",
    chart: Annotated[Path, typer.Argument()] = CHART,
) -> None:
    """Read results, draw them."""
    draw(json.loads(results.read_text(encoding="utf-8")), chart)


if __name__ == "__main__":
    typer.run(main)
