"""`guard-service evaluate`: measure a guard on labelled conversations."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from guard_service.cli.judge import judging
from guard_service.cli.options import with_settings
from guard_service.evaluation.judging import Judged, judge_rows
from guard_service.evaluation.outputs import Outputs
from guard_service.evaluation.rows import Row, read_rows
from guard_service.moderation import ConfigurationError, Conversation, ModelInfo, Verdict
from guard_service.policy import Policy
from guard_service.settings import ModelSettings, ServeSettings

CONCURRENCY = 32
"""Rows in flight: enough to fill a batch, few enough to fit any queue."""

PATIENCE_SECONDS = 600.0
"""Longest wait for one row in this process; how fast it goes is what is to be found out."""


@with_settings(ModelSettings)
def evaluate(
    settings: ServeSettings,
    *,
    files: Annotated[
        list[Path], typer.Argument(help="Labelled rows: FILE.jsonl or FILE.jsonl.gz.")
    ],
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.", metavar="FILE")],
    plot: Annotated[
        Path | None, typer.Option(help="Draw precision-recall curves, PNG.", metavar="FILE")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Write each row's verdict as a JSON line, without text.", metavar="FILE"),
    ] = None,
    policy: Annotated[str, typer.Option(help="Id of the policy to judge by.", metavar="ID")] = "",
    target: Annotated[
        str | None,
        typer.Option(help="Ask this server instead of a model here.", metavar="HOST:PORT"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Take at most so many rows of each file, drawn at random.", min=1),
    ] = None,
) -> None:
    """Judge labelled rows: F1, precision, recall, FPR, AUROC, AUPRC, and the first category.

    Each figure comes with a 95 % confidence interval, over all rows, by source and by category.
    Rows that end in an error are counted as unjudged, never as safe.
    """
    outputs = Outputs(output, plot, scores)
    outputs.require_folders()
    publish = _publisher()
    rows = read_rows(files, limit)
    began = time.monotonic()
    judged, used, model = asyncio.run(_judge(settings, target, policy, rows))
    publish(judged, used, model, time.monotonic() - began, outputs)


def _publisher() -> Callable[[Sequence[Judged], Policy, ModelInfo, float, Outputs], None]:
    """What writes the results; that its packages are missing is found before the long work."""
    try:
        # numpy and matplotlib are an extra, and slow to import.
        from guard_service.evaluation.publishing import publish  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: install the extra 'evaluate' "
            "(pip install 'guard-service[evaluate]')"
        ) from error
    return publish


async def _judge(
    settings: ServeSettings, target: str | None, policy_id: str, rows: Sequence[Row]
) -> tuple[list[Judged], Policy, ModelInfo]:
    patient = settings.model_copy(update={"max_wait_seconds": PATIENCE_SECONDS})
    async with judging(patient, target) as judge:
        policy, model = await judge.describe(policy_id)

        async def moderate(conversation: Conversation) -> Verdict:
            return await judge.moderate(conversation, policy_id=policy.id)

        with _progress() as progress:
            task = progress.add_task("judging", total=len(rows))
            judged = await judge_rows(
                rows, moderate, concurrency=CONCURRENCY, on_judged=lambda: progress.advance(task)
            )
        return judged, policy, model


class _Rate(ProgressColumn):
    """Rows per second so far."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f} rows/s")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
