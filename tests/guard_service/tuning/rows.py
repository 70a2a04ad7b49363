"""Short ways to say labelled rows, and toy ones that a tiny model can learn."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from guard_service.evaluation.rows import PlacedRow, Row
from guard_service.moderation import Message, Role
from tests.prompts import said

HARMLESS = ("bread", "soup", "garden", "river", "train", "window", "music", "letter", "coffee")
HARMFUL = ("bomb", "murder", "weapon", "attack", "kill", "explosive", "torture", "terror", "stab")


def labelled(
    *messages: tuple[str, str],
    unsafe: bool = False,
    codes: tuple[str, ...] | None = None,
    source: str = "made up",
) -> Row:
    """`labelled(("user", "Hi"), unsafe=True)`."""
    conversation = said(*messages)
    role = "agent" if conversation[-1].role is Role.ASSISTANT else "user"
    return Row("1", source, role, conversation, "unsafe" if unsafe else "safe", codes)


def asked(text: str, *, unsafe: bool = False, codes: tuple[str, ...] | None = None) -> Row:
    return labelled(("user", text), unsafe=unsafe, codes=codes)


def placed(*rows: Row, file: str = "a.jsonl") -> list[PlacedRow]:
    return [PlacedRow(row, f"{file}, line {line}") for line, row in enumerate(rows, start=1)]


def toy_rows(number: int, seed: int) -> Iterator[Row]:
    """Half of them of harmless words, half of harmful ones and of category S1; all differ."""
    rng = random.Random(seed)
    for index in range(number):
        unsafe = index % 2 == 1
        words = [*rng.sample(HARMFUL if unsafe else HARMLESS, 3), str(rng.randrange(1000))]
        yield asked(" ".join(words), unsafe=unsafe, codes=("S1",) if unsafe else None)


def write_rows(file: Path, rows: Iterable[Row]) -> Path:
    lines = (
        json.dumps(
            {
                "id": row.id,
                "source": row.source,
                "role": row.role,
                "messages": _plain(row.messages),
                "label": row.label,
                "categories": row.categories,
            }
        )
        for row in rows
    )
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": each.role.value, "content": each.content} for each in messages]
