"""The command line: `guard-service serve | moderate | evaluate | tune | models | health`.

Exit status: 0 done, 1 no verdict could be reached or not healthy, 2 wrong usage, 70 the device
failed while serving, 78 wrong configuration, 130 interrupted. An error is one line on standard
error.
"""

import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from guard_service.cli.evaluate import evaluate
from guard_service.cli.health import health
from guard_service.cli.models import models
from guard_service.cli.moderate import moderate
from guard_service.cli.serve import serve
from guard_service.cli.tune import tune
from guard_service.moderation import ConfigurationError, ModerationError

NO_VERDICT = 1
WRONG_CONFIGURATION = 78
INTERRUPTED = 130

app = typer.Typer(
    name="guard-service",
    help="Llama Guard verdicts over gRPC: is the last turn of this conversation safe?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(moderate)
app.command()(evaluate)
app.command()(tune)
app.command()(health)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line and end the process with its exit status."""
    _quieten_libraries()
    try:
        app()
    except ConfigurationError as error:
        _fail(str(error), WRONG_CONFIGURATION)
    except ModerationError as error:
        _fail(str(error), NO_VERDICT)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)


def _quieten_libraries() -> None:
    """No deprecations of theirs, which a user cannot mend, and no progress bars in a log."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _fail(message: str, status: int) -> None:
    typer.echo(f"guard-service: {message}", err=True)
    sys.exit(status)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - the callback's fixed shape
    if wanted:
        typer.echo(_version())
        raise typer.Exit


def _version() -> str:
    try:
        return version("guard-service")
    except PackageNotFoundError:
        return "not installed"


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass
