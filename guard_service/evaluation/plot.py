"""The precision-recall curves of an evaluation as a PNG picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from guard_service.evaluation.curves import curves
from guard_service.evaluation.judging import Judged
from guard_service.moderation import ConfigurationError


def plot_precision_recall(file: Path, judged: Sequence[Judged], title: str) -> None:
    """Draw one curve over all rows and one per source that has both safe and unsafe rows.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, "all", judged, linewidth=2.5)
    sources = sorted({each.row.source for each in judged})
    for source in sources if len(sources) > 1 else ():
        _draw(axes, source, [each for each in judged if each.row.source == source], linewidth=1.2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    try:
        figure.savefig(file, dpi=150, format="png")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error


def _draw(axes: Axes, name: str, judged: Sequence[Judged], *, linewidth: float) -> None:
    scored = [(each.row.unsafe, each.verdict) for each in judged if each.verdict is not None]
    labels = np.array([unsafe for unsafe, _ in scored], dtype=bool)
    if len(set(labels.tolist())) < 2:  # noqa: PLR2004 - a curve needs both kinds
        return
    scores = np.array([verdict.unsafe_probability for _, verdict in scored], dtype=float)
    found = curves(labels, scores, np.ones((1, len(scores))))
    axes.plot(
        found.recall[0],
        found.precision[0],
        linewidth=linewidth,
        label=f"{name} (AUPRC {found.auprc[0]:.3f})",
    )
