"""The texts of our own in `texts/*.yaml`: templates of look-alikes, exchanges, refusals."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "texts"
OTHER_LANGUAGE_WEIGHT = 0.5
"""How often a text of another language is drawn against an English one: the base is English."""

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Kind:
    """One confusable word or theme: harmless texts, and by category their unsafe mirrors."""

    name: str
    safe: tuple[str, ...]
    unsafe: dict[str, tuple[str, ...]]
    slots: dict[str, list[str]]
    weight: float

    def say(self, template: str, random_: random.Random) -> str:
        """The template with every slot filled, slots within slots too."""
        while slot := _SLOT.search(template):
            word = random_.choice(self.slots[slot[1]])
            template = template[: slot.start()] + str(word) + template[slot.end() :]
        return template


@dataclass(frozen=True, slots=True)
class Texts:
    """Everything in the files, in the order of their names."""

    kinds: tuple[Kind, ...]
    exchanges: tuple[tuple[str, str], ...]
    refusals: tuple[str, ...]


def read_texts(folder: Path = FOLDER) -> Texts:
    """All texts."""
    files = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(folder.glob("*.yaml"))]
    return Texts(
        kinds=tuple(kind for file in files for kind in _kinds(file)),
        exchanges=tuple(
            (each["user"].strip(), each["assistant"].strip())
            for file in files
            for each in file.get("exchanges") or ()
        ),
        refusals=tuple(each.strip() for file in files for each in file.get("refusals") or ()),
    )


def split_kinds(kinds: Sequence[Kind], share: float, seed: int) -> tuple[list[Kind], list[Kind]]:
    """Kinds to train on, and a random share of whole kinds to choose checkpoints by."""
    held = set(random.Random(seed).sample(range(len(kinds)), round(share * len(kinds))))
    return (
        [kind for place, kind in enumerate(kinds) if place not in held],
        [kind for place, kind in enumerate(kinds) if place in held],
    )


def _kinds(file: dict[str, Any]) -> list[Kind]:
    return [
        Kind(
            name=f"{file['language']}-{each['name']}",
            safe=tuple(each.get("safe") or ()),
            unsafe={code: tuple(said) for code, said in (each.get("unsafe") or {}).items()},
            slots=file.get("slots") or {},
            weight=1.0 if file["language"] == "en" else OTHER_LANGUAGE_WEIGHT,
        )
        for each in file.get("kinds") or ()
    ]
