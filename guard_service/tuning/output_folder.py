"""The folder a run writes to: what lies where, and whether a run may start or go on in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard_service.moderation import ConfigurationError


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The best adapter with its model card, and beside them what tells how it came about."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of what a resumed run goes on from."""
        return self.path / "checkpoints"

    @property
    def data(self) -> Path:
        """The data report."""
        return self.path / "data.json"

    @property
    def settings(self) -> Path:
        """The settings that a resumed run has to share."""
        return self.path / "settings.json"

    @property
    def log(self) -> Path:
        """Every logged figure, as JSON lines."""
        return self.path / "log.jsonl"

    @property
    def best(self) -> Path:
        """The dev figures of the adapter that is kept."""
        return self.path / "dev.json"

    @property
    def seconds(self) -> Path:
        """How long the run has trained, as of the newest checkpoint."""
        return self.path / "seconds.txt"

    @property
    def curve(self) -> Path:
        """The log as a picture."""
        return self.path / "curve.png"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "README.md"

    def newest_checkpoint(self) -> Path | None:
        """The newest one that is whole: its state is written last."""
        whole = self.checkpoints.glob("checkpoint-*/trainer_state.json")
        folders = [state.parent for state in whole]
        return max(folders, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)

    def require_unused(self) -> None:
        """Make the folder for a new run.

        Raises:
            ConfigurationError: it holds another run, or cannot be made.
        """
        if self.newest_checkpoint():
            raise ConfigurationError(
                f"output: there is a run in '{self.path}' already; --resume goes on with it"
            )
        if self.log.exists():
            raise ConfigurationError(
                f"output: there is a run in '{self.path}' already, without a checkpoint to resume; "
                "name another folder, or remove this one"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"output: cannot make '{self.path}': {error.strerror}"
            ) from error

    def require_checkpoint(self, data_digest: str, settings: Mapping[str, Any]) -> None:
        """Check that a run on these rows, with these settings, can go on here.

        Raises:
            ConfigurationError: there is no checkpoint, or one of a run on other rows or settings.
        """
        if self.newest_checkpoint() is None:
            raise ConfigurationError(f"output: there is no checkpoint in '{self.path}' to resume")
        if self.data.exists() and _read(self.data).get("digest") != data_digest:
            raise ConfigurationError(
                f"the rows are not those of the run in '{self.path}', so it cannot go on with them"
            )
        began = _read(self.settings) if self.settings.exists() else settings
        for name, value in settings.items():
            if began.get(name) != value:
                raise ConfigurationError(
                    f"{name}: is {value}, but {began.get(name)} for the run in '{self.path}', "
                    "so it cannot go on with it"
                )


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from error
