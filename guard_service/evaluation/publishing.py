"""Write what an evaluation found to its files, and show it."""

from collections.abc import Sequence

from rich.console import Console

from guard_service.evaluation.judging import Judged
from guard_service.evaluation.outputs import Outputs, write_text
from guard_service.evaluation.plot import plot_precision_recall
from guard_service.evaluation.report import report, score_lines
from guard_service.evaluation.table import report_table
from guard_service.moderation import ModelInfo
from guard_service.policy import Policy


def publish(
    judged: Sequence[Judged], policy: Policy, model: ModelInfo, seconds: float, outputs: Outputs
) -> None:
    """Write the wanted files and print the table; `seconds` is what judging took.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    found = report(judged, policy, model, seconds)
    write_text(outputs.figures, found.as_json())
    if outputs.scores is not None:
        write_text(outputs.scores, "".join(score_lines(judged)))
    if outputs.plot is not None:
        plot_precision_recall(outputs.plot, judged, f"{model.id}\npolicy {policy.id}")
    console = Console()
    console.print(report_table(found))
    for error, count in found.errors.items():
        console.print(f"{count} unjudged: {error}", markup=False)
