"""Verdicts against the reference: the check of the tests, on many more conversations.

The reference is plain transformers: the model's own chat template and greedy `generate`. Random
Llamas with the Llama 3 vocabulary and the embedded guard are each asked alone, in random batches
and streamed with random splits.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from benchmarks.guard_models import embedded_folder
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from guard_service.embedded import ADAPTER, PROMPT_FORMAT
from guard_service.moderation import Conversation
from tests.conversations import everyday_conversations, random_conversations
from tests.equality import MAX_PIECES, Comparison, Equality, compare, expectations
from tests.models import NO_GROUPS, SMALL, WIDE_HEADS, save_grammatical_llama
from tests.reference import Reference, ReferenceVerdict
from tests.running import loaded_engine, running_moderator

WAYS = 4  # the reference, alone, batched, streamed
RANDOM_LLAMAS = {
    "small": (SMALL, "llama-guard-2"),
    "wide heads": (WIDE_HEADS, "llama-guard-2"),
    "no groups": (NO_GROUPS, "llama-guard-2"),
    "compact": (SMALL, "compact"),
}
"""By name: a shape, and the prompt format it is asked in."""

Draw = Callable[[int, int], Iterator[Conversation]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model in a folder, and the conversations it is asked about."""

    name: str
    folder: Path
    adapter: Path | None
    prompt_format: str
    draw: Draw


def subjects(names: Sequence[str], scratch: Path, seed: int) -> Iterator[Subject]:
    """The models of these names; random ones are made now, in `scratch`."""
    for name in names:
        if name == "embedded":
            yield Subject(name, embedded_folder(), ADAPTER, PROMPT_FORMAT, everyday_conversations)
            continue
        shape, prompt_format = RANDOM_LLAMAS[name]
        folder = scratch / name.replace(" ", "-")
        save_grammatical_llama(folder, seed, shape, prompt_format=prompt_format)
        yield Subject(name, folder, None, prompt_format, random_conversations)


async def examine(
    subject: Subject, count: int, seed: int, pieces: int, tick: Callable[[], None]
) -> tuple[list[ReferenceVerdict], Equality]:
    """Ask the reference first, then the service in every way."""
    conversations = list(subject.draw(seed, count))
    prompt_format = subject.prompt_format
    reference = Reference.load(subject.folder, subject.adapter, prompt_format=prompt_format)
    expected = expectations(reference, conversations, tick)
    del reference
    engine = loaded_engine(subject.folder, subject.adapter, prompt_format=prompt_format)
    async with running_moderator(engine) as moderator:
        equality = await compare(
            moderator, conversations, expected, seed=seed, max_pieces=pieces, tick=tick
        )
    return expected, equality


def rows_of(
    subject: Subject, expected: Sequence[ReferenceVerdict], equality: Equality
) -> list[dict[str, Any]]:
    """One row per way of asking."""
    facts = {
        "model": subject.name,
        "unsafe": sum(each.unsafe for each in expected),
        "lists of several": sum(len(each.codes) > 1 for each in expected),
    }
    return [
        facts | {"way": way.name} | _row(getattr(equality, way.name)) for way in fields(equality)
    ]


def _row(comparison: Comparison) -> dict[str, Any]:
    return {
        "verdicts": comparison.num_verdicts,
        "max |dP|": comparison.max_probability_difference,
        "verdicts off": comparison.num_verdict_mismatches,
        "lists off": comparison.num_list_mismatches,
        "equal": comparison.equal,
    }


def main(
    *,
    conversations: int = 2000,
    models: str = "small,wide heads,no groups,compact,embedded",
    seed: int = 1,
    pieces: int = MAX_PIECES,
    threads: Threads = 0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Compare every model, and exit with 1 if any verdict, list or probability strays.

    Each answer is streamed in up to PIECES pieces; fewer make a long run shorter.
    """
    use_threads(threads)
    count = 10 if quick else conversations
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch, Progress() as progress:
        for subject in subjects(models.split(","), Path(scratch), seed):
            task = progress.add_task(subject.name, total=WAYS * count)
            began = time.monotonic()
            tick = partial(progress.advance, task)
            expected, equality = asyncio.run(examine(subject, count, seed, pieces, tick))
            seconds = round(time.monotonic() - began)
            rows += [row | {"seconds": seconds} for row in rows_of(subject, expected, equality)]
    show(f"{count} conversations per model", rows)
    write("reference_equality", {"conversations": count, "rows": rows}, quick=quick, output=output)
    raise typer.Exit(0 if all(row["equal"] for row in rows) else 1)


if __name__ == "__main__":
    typer.run(main)
