"""What the files of a model must hold: a list of SHA-256 sums, as `sha256sum` writes it."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from guard_service.moderation import ConfigurationError
from guard_service.weights.names import problem_with

_LINE = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?P<name>.+)")


@dataclass(frozen=True, slots=True)
class Manifest:
    """SHA-256 sums, 64 hex digits each, by file name; `source` is what errors call the list."""

    sums: Mapping[str, str]
    source: str

    def require(self, folder: Path) -> None:
        """Find in `folder` exactly the listed files, each with its sum.

        Reads every byte, several files at a time.

        Raises:
            ConfigurationError: One line that names the first file that is missing, wrong or not
                listed.
        """
        if not folder.is_dir():
            raise ConfigurationError(f"there is no folder '{folder}'")
        present = {path.relative_to(folder).as_posix() for path in _files_in(folder)}
        if missing := sorted(self.sums.keys() - present):
            raise ConfigurationError(f"{folder / missing[0]} is missing; {self.source} lists it")
        if foreign := sorted(present - self.sums.keys()):
            raise ConfigurationError(
                f"{folder / foreign[0]} is not listed in {self.source}; remove it, or make the "
                "list anew with 'guard-service models manifest' if it belongs to the model"
            )
        for name, actual in zip(self.sums, _sums_of(folder, self.sums), strict=True):
            self.require_sum(folder / name, actual)

    def require_file(self, file: Path) -> None:
        """Find the listed sum in one file; raises `ConfigurationError`."""
        self.require_sum(file, sha256_of(file))

    def require_sum(self, file: Path, actual: str) -> None:
        """Compare a sum with the list; raises `ConfigurationError`."""
        expected = self.sums[file.name]
        if actual != expected:
            raise ConfigurationError(
                f"{file} is not the file that {self.source} lists: its sha256 is {actual}, "
                f"expected {expected}"
            )

    def __str__(self) -> str:
        return "".join(f"{digest}  {name}\n" for name, digest in sorted(self.sums.items()))


def read_manifest(path: Path) -> Manifest:
    """The list in a file. Empty lines and lines that begin with # say nothing.

    Raises:
        ConfigurationError: One line that names the file and the line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the manifest {path}: {error}") from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _LINE.fullmatch(line)
        if entry is None:
            raise ConfigurationError(
                f"{path}: line {number} must be 64 hex digits, two spaces and a file name"
            )
        if problem := problem_with(entry["name"]):
            raise ConfigurationError(f"{path}: line {number}: '{entry['name']}' {problem}")
        if entry["name"] in sums:
            raise ConfigurationError(f"{path}: line {number}: '{entry['name']}' is listed twice")
        sums[entry["name"]] = entry["sum"]
    if not any(name.endswith(".safetensors") for name in sums):
        raise ConfigurationError(
            f"{path} lists no weights (*.safetensors); make it with 'guard-service models "
            "manifest FOLDER' from a copy of the model you trust"
        )
    return Manifest(sums, str(path))


def manifest_of(folder: Path) -> Manifest:
    """The list of what is in `folder` now, for a copy of a model that is trusted.

    Raises:
        ConfigurationError: The folder is missing, or holds a file that a model must not have.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder '{folder}'")
    names = sorted(path.relative_to(folder).as_posix() for path in _files_in(folder))
    for name in names:
        if problem := problem_with(name):
            raise ConfigurationError(f"'{name}' in {folder} {problem}; remove it")
    return Manifest(dict(zip(names, _sums_of(folder, names), strict=True)), str(folder))


def sha256_of(file: Path) -> str:
    """64 hex digits; raises `ConfigurationError` where the file cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error


def _sums_of(folder: Path, names: Iterable[str]) -> list[str]:
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda name: sha256_of(folder / name), names))


def _files_in(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())
