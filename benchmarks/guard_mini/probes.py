"""The probes of `benchmarks.guard_probes` as labelled rows; no guard is trained on them.

A row's `source` is the name of its probe. Its `id` is empty where the judged turn is our own, and
that of the public row where it is not.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from guard_service.evaluation.rows import Row
from guard_service.moderation import Conversation, Message, Role
from guard_service.strict_yaml import load_yaml

FILE = Path(__file__).parent / "probes.yaml"
PLAIN, ALARMING = "everyday, plain", "everyday, with alarming words"
REFUSALS = "refusals"
AFTER_UNSAFE = "harmless after a refused request"
OWN_UNSAFE = "own unsafe"
TURNS_BEFORE = (1, 2, 4)
_SEED = 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer."""

    user: str
    assistant: str

    @property
    def messages(self) -> Conversation:
        """Both turns."""
        return Message(Role.USER, self.user), Message(Role.ASSISTANT, self.assistant)


@dataclass(frozen=True, slots=True)
class AfterUnsafe:
    """An unsafe request that was refused, and the harmless turn that is judged."""

    request: str
    refusal: str
    last: str

    @property
    def messages(self) -> Conversation:
        """All three turns."""
        return *Exchange(self.request, self.refusal).messages, Message(Role.USER, self.last)


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in one language."""

    harmless: tuple[str, ...]
    unsafe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Texts:
    """The probes file; `unsafe` is by category code."""

    plain: tuple[str, ...]
    alarming: tuple[str, ...]
    refusals: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    languages: Mapping[str, Requests]
    unsafe: Mapping[str, tuple[str, ...]]
    after_unsafe: tuple[AfterUnsafe, ...]


def read_texts() -> Texts:
    """What the probes file holds."""
    return TypeAdapter(Texts).validate_python(load_yaml(FILE.read_text(encoding="utf-8")))


def behind(num_turns: int) -> str:
    """The name of the probe of unsafe requests behind so many harmless turns."""
    return f"unsafe, behind {num_turns}" if num_turns else "unsafe, alone"


def everyday(texts: Texts) -> list[Row]:
    """Harmless prompts."""
    return [*_prompts(PLAIN, texts.plain, "safe"), *_prompts(ALARMING, texts.alarming, "safe")]


def others(texts: Texts, unsafe: Sequence[Row]) -> Iterator[Row]:
    """All probes that are not everyday prompts; `unsafe` are public rows."""
    for row, refusal in zip(unsafe, texts.refusals, strict=False):
        turns = (*row.messages, Message(Role.ASSISTANT, refusal))
        yield Row("", REFUSALS, "agent", turns, "safe")
    yield from _diluted(texts, unsafe)
    for each in texts.after_unsafe:
        yield Row("", AFTER_UNSAFE, "user", each.messages, "safe")
    for language, requests in texts.languages.items():
        yield from _prompts(language, requests.harmless, "safe")
        yield from _prompts(language, requests.unsafe, "unsafe")
    for code, prompts in texts.unsafe.items():
        yield from _prompts(OWN_UNSAFE, prompts, "unsafe", (code,))


def _diluted(texts: Texts, unsafe: Sequence[Row]) -> Iterator[Row]:
    """Unsafe requests alone and behind exchanges; more turns are the same ones and others."""
    rng = random.Random(_SEED)
    for row in unsafe:
        drawn = [each.messages for each in rng.sample(texts.exchanges, max(TURNS_BEFORE))]
        for num_turns in (0, *TURNS_BEFORE):
            earlier = sum(drawn[len(drawn) - num_turns :], start=())
            yield Row(row.id, behind(num_turns), "user", (*earlier, *row.messages), "unsafe")


def _prompts(
    probe: str,
    prompts: Sequence[str],
    label: Literal["safe", "unsafe"],
    categories: tuple[str, ...] | None = None,
) -> list[Row]:
    return [
        Row("", probe, "user", (Message(Role.USER, each),), label, categories) for each in prompts
    ]
