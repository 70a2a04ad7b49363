"""The files an evaluation leaves behind."""

from dataclasses import dataclass
from pathlib import Path

from guard_service.moderation import ConfigurationError


@dataclass(frozen=True, slots=True)
class Outputs:
    """Figures as JSON, and if wanted a plot (PNG) and one score line per row (JSON lines)."""

    figures: Path
    plot: Path | None = None
    scores: Path | None = None

    def require_folders(self) -> None:
        """Raise `ConfigurationError` if a file's folder does not exist: before the long work."""
        for file in (self.figures, self.plot, self.scores):
            if file is not None and not file.parent.is_dir():
                raise ConfigurationError(f"cannot write {file}: there is no such folder")


def write_text(file: Path, text: str) -> None:
    """Write a result file; raises `ConfigurationError` where that is impossible."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error
