"""Labelled conversations in JSON lines, one row each, checked as they are read."""

import gzip
import random
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from guard_service.moderation import ConfigurationError, Conversation, Message, Role

_SAMPLE_SEED = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled conversation.

    `role` is the side that is judged; `categories` are codes of Llama Guard 2, None where unknown.
    """

    id: str
    source: str
    role: Literal["user", "agent"]
    messages: tuple[Message, ...]
    label: Literal["safe", "unsafe"]
    categories: tuple[str, ...] | None = None

    @property
    def conversation(self) -> Conversation:
        """What the guard is shown."""
        return self.messages

    @property
    def unsafe(self) -> bool:
        """What the guard should say."""
        return self.label == "unsafe"


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row, and where it stands: `FILE, line N`."""

    row: Row
    place: str


_ROW = TypeAdapter(Row)


def read_rows(files: Iterable[Path], limit: int | None = None) -> list[Row]:
    """The rows of all `files`; with `limit`, a fixed random sample of that size from each.

    Raises:
        ConfigurationError: names the file and the line that cannot be used.
    """
    return [each.row for each in read_placed_rows(files, limit)]


def read_placed_rows(files: Iterable[Path], limit: int | None = None) -> list[PlacedRow]:
    """The rows of `read_rows`, each with its place."""
    return [row for file in files for row in _sample(list(_rows_of(file)), limit)]


def _sample(rows: list[PlacedRow], limit: int | None) -> list[PlacedRow]:
    if limit is None or limit >= len(rows):
        return rows
    return random.Random(_SAMPLE_SEED).sample(rows, limit)  # noqa: S311


def _rows_of(file: Path) -> Iterator[PlacedRow]:
    try:
        with _open(file) as lines:
            for number, line in enumerate(lines, start=1):
                if text := line.strip():
                    place = f"{file}, line {number}"
                    yield PlacedRow(_parse(text, place), place)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from error


def _open(file: Path) -> AbstractContextManager[Iterable[bytes]]:
    """Bytes, so that a line that is no UTF-8 is one wrong row and not an unreadable file."""
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def _parse(line: bytes, where: str) -> Row:
    try:
        row = _ROW.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        raise ConfigurationError(f"{where}: {field}: {first['msg']}") from None
    if not row.messages:
        raise ConfigurationError(f"{where}: messages: at least one is needed")
    if (row.messages[-1].role is Role.ASSISTANT) != (row.role == "agent"):
        raise ConfigurationError(f"{where}: role: the last message is not the {row.role}'s")
    return row
