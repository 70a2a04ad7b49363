"""`guard-service tune`: fine-tune a guard on labelled conversations."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from guard_service.configuration.options import Command, option_of, with_options
from guard_service.configuration.reference import references
from guard_service.evaluation.outputs import write_text
from guard_service.evaluation.rows import PlacedRow, read_placed_rows
from guard_service.moderation import ConfigurationError
from guard_service.policy import Policy
from guard_service.tuning.data_checks import check_rows
from guard_service.tuning.data_report import DataReport, data_report
from guard_service.tuning.data_table import data_table
from guard_service.tuning.model_card import write_model_card
from guard_service.tuning.output_folder import OutputFolder
from guard_service.tuning.recipes import recipe_file
from guard_service.tuning.settings import TuneSettings, load


def _with_settings(command: Command) -> Command:
    """Replace the first parameter, `settings`, by an option for each setting of a run."""
    options = [option_of(each, panel="Settings of the run") for each in references(TuneSettings)]
    return with_options(command, options, lambda flags, _: _settings(flags))


def _settings(flags: Mapping[str, Any]) -> TuneSettings:
    recipe = {"config": recipe_file(flags["config"])} if "config" in flags else {}
    return load(TuneSettings, {**flags, **recipe})


@_with_settings
def tune(
    settings: TuneSettings,
    *,
    files: Annotated[
        list[Path], typer.Argument(help="Labelled rows: FILE.jsonl or FILE.jsonl.gz.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --output.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(help="Take at most so many rows of each file, drawn at random.", min=1),
    ] = None,
) -> None:
    """Train a LoRA adapter that `guard-service serve --adapter` loads.

    Rows are those of `evaluate`. --config takes a YAML file of the settings below, or the name of a
    recipe that ships: embedded, llama-guard-2-8b-24gb.
    """
    run, plot_log = _runner()
    policy, folder = settings.taught_policy(), OutputFolder(settings.output)
    rows, dev = read_placed_rows(files, limit), _rows_of("dev", settings.dev, limit)
    check_rows(rows, dev, _rows_of("held_out", settings.held_out), policy)
    report = data_report([each.row for each in rows], [each.row for each in dev], policy)
    if resume:
        folder.require_checkpoint(report.digest, settings.kept_on_resume())
    else:
        folder.require_unused()
    _show(report, policy)
    write_text(folder.data, report.as_json())
    write_text(folder.settings, json.dumps(settings.kept_on_resume(), indent=2) + "\n")
    run(
        settings,
        [each.row for each in rows],
        [each.row for each in dev],
        resume=resume,
        say=typer.echo,
    )
    plot_log(folder.curve, folder.log, f"{settings.model or 'embedded model'}, {settings.format}")
    write_model_card(settings, policy, report, files)
    typer.echo(f"the adapter is in {folder.path}; {folder.card} says how to serve it")


def _rows_of(setting: str, files: Sequence[Path], limit: int | None = None) -> list[PlacedRow]:
    """The rows of a setting's files; files without any would be no check at all."""
    rows = read_placed_rows(files, limit)
    if files and not rows:
        raise ConfigurationError(f"{setting}: there is no row in {', '.join(map(str, files))}")
    return rows


def _runner() -> tuple[Callable[..., None], Callable[..., None]]:
    """What trains, and what draws; missing packages are found before the long work."""
    try:
        # torch, peft, trl and matplotlib are extras, and slow to import.
        from guard_service.tuning.curve import plot_log  # noqa: PLC0415
        from guard_service.tuning.run import tune as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: install the extra 'tune' "
            "(pip install 'guard-service[model,tune]')"
        ) from error
    return run, plot_log


def _show(report: DataReport, policy: Policy) -> None:
    console = Console()
    console.print(data_table(report, policy))
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False)
