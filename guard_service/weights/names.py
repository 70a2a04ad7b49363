"""Which files a model may consist of: tensors, configuration and tokenizer, nothing that runs."""

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

ALLOWED_FILES = ("*.safetensors", "*.json", "tokenizer*")
"""Pickles and Python files are refused: loading them would run what they hold."""

_REFUSED_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".py"}


def problem_with(name: str) -> str | None:
    """Why a model must not have a file of this name, or None."""
    path = PurePosixPath(name)
    if str(path) != name or path.is_absolute() or ".." in path.parts or "\\" in name:
        return "is not a plain relative path"
    if len(path.parts) != 1:
        return "lies in a folder of its own; the files of a model lie side by side"
    is_allowed = any(fnmatchcase(name, pattern) for pattern in ALLOWED_FILES)
    if not is_allowed or path.suffix in _REFUSED_SUFFIXES:
        return f"is none of {', '.join(ALLOWED_FILES)}"
    return None
