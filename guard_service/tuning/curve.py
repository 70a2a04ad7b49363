"""The log of a run as a picture: verdict loss and dev AUROC against steps."""

import json
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from guard_service.moderation import ConfigurationError


def plot_log(file: Path, log: Path, title: str) -> None:
    """Draw the losses over the AUROC.

    Raises:
        ConfigurationError: the picture cannot be written.
    """
    lines = log.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    figure = Figure(figsize=(7, 6), layout="constrained")
    losses, auroc = figure.subplots(2, 1, sharex=True)
    _draw(losses, entries, "verdict_loss", "training rows", linewidth=1.2)
    _draw(losses, entries, "eval_verdict_loss", "dev rows", linewidth=2.5)
    _draw(auroc, entries, "eval_auroc", "dev rows", linewidth=2.5)
    losses.set(ylabel="verdict loss", ylim=(0, None))
    losses.set_title(title, fontsize="medium")
    auroc.set(xlabel="step", ylabel="AUROC")
    for axes in (losses, auroc):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    try:
        figure.savefig(file, dpi=150, format="png")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error


def _draw(
    axes: Axes, entries: Iterable[dict[str, float]], figure: str, label: str, *, linewidth: float
) -> None:
    """One curve; where a resumed run went over a step again, its newest figure counts."""
    points = {entry["step"]: entry[figure] for entry in entries if figure in entry}
    if points:
        steps = sorted(points)
        values = [points[step] for step in steps]
        axes.plot(steps, values, marker=".", linewidth=linewidth, label=label)
