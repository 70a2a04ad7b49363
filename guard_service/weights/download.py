"""Fetch the listed files of a hub model into a folder that is either whole and right or absent."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from guard_service.moderation import ConfigurationError
from guard_service.weights.manifest import Manifest


def download(
    model: str,
    revision: str,
    folder: Path,
    manifest: Manifest,
    say: Callable[[str], None],
) -> None:
    """Have the files of `manifest` in `folder`, verified; a folder that is there is only verified.

    Files arrive in a folder beside it, which is renamed when every one of them is right. After an
    interruption the next call goes on where this one ended. Processes that call at the same time
    wait for the first. `say` gets a line of progress per file.

    Raises:
        ConfigurationError: One line that says what went wrong and what to do.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if folder.exists():
                manifest.require(folder)
                say(f"{folder} is there already, and every file is as listed")
                return
            partial = folder.with_name(f".{folder.name}.partial")
            _fill(partial, model, revision, manifest, say)
            partial.rename(folder)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {folder}: {error.strerror or error}; it needs a writable folder with "
            "room for the whole model"
        ) from error
    say(f"{folder} is complete")


def _fill(
    partial: Path, model: str, revision: str, manifest: Manifest, say: Callable[[str], None]
) -> None:
    _forget_others(partial, manifest)
    for number, name in enumerate(sorted(manifest.sums), start=1):
        say(f"file {number} of {len(manifest.sums)}: {name}")
        _fetch(model, revision, name, partial)
        try:
            manifest.require_file(partial / name)
        except ConfigurationError:
            (partial / name).unlink()  # so that another attempt fetches it again
            raise
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the hub client's own notes
    manifest.require(partial)


def _forget_others(partial: Path, manifest: Manifest) -> None:
    """Remove what an attempt with another list may have left."""
    if partial.is_dir():
        for file in partial.iterdir():
            if file.is_file() and file.name not in manifest.sums:
                file.unlink()


def _fetch(model: str, revision: str, name: str, partial: Path) -> None:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - slow, and only needed here

    try:
        # Its errors are also those of whatever HTTP library it is built on.
        hf_hub_download(model, name, revision=revision, local_dir=partial)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            raise  # the disk's fault, not the hub's
        raise ConfigurationError(
            f"cannot fetch '{name}' of '{model}' at {revision} ({type(error).__name__}); check "
            "the name, the revision, your access to gated models (HF_TOKEN) and the network"
        ) from error
