"""Memory of the server: after loading, under many requests, and with the longest input.

Growth is measured on a small random model, so that tens of thousands of requests of every kind
pass through a real server process; size and peak are those of the embedded guard.
"""

import asyncio
import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress, track

from benchmarks.guard_process import GuardProcess
from benchmarks.report import MIB, Output, Quick, show, write
from guard_service.client import GuardClient
from guard_service.moderation import Conversation, Message, ModerationError, Role
from tests.conversations import everyday_text, random_conversations
from tests.models import SMALL, save_grammatical_llama

CALLERS = 8
BATCH = 4
PATIENCE_SECONDS = 3600.0
LONGEST_BYTES = 100_000  # about as much as 16 windows of the embedded guard hold
PATIENT: dict[str, Any] = {"max_wait_seconds": PATIENCE_SECONDS, "stall_seconds": PATIENCE_SECONDS}


async def mixed_request(client: GuardClient, rng: random.Random, text: Conversation) -> None:
    """A single conversation, a batch, a stream, or something that is refused."""
    match rng.choices(("single", "batch", "stream", "refused"), (70, 10, 15, 5)):
        case ["single"]:
            await client.moderate(text, timeout_seconds=PATIENCE_SECONDS)
        case ["batch"]:
            await client.moderate_batch([text] * BATCH, timeout_seconds=PATIENCE_SECONDS)
        case ["stream"]:
            await _stream(client, text)
        case _:
            with suppress(ModerationError):
                await client.moderate(())


async def _stream(client: GuardClient, text: Conversation) -> None:
    *history, last = text
    async with client.stream((*history, Message(last.role, ""))) as stream:
        half = len(last.content) // 2
        await stream.send(last.content[:half], check=True)
        await stream.send(last.content[half:])
        await stream.finish()
        async for _ in stream.checkpoints():
            pass


async def growth(server: GuardProcess, count: int, samples: int) -> list[dict[str, Any]]:
    """Resident memory after every part of `count` mixed requests."""
    rng = random.Random(1)
    texts = random_conversations(1, count)
    rows = [{"requests": 0, "resident MiB": server.resident_bytes / MIB}]
    async with GuardClient(server.target) as client:
        for number in track(range(1, samples + 1), f"{count} mixed requests"):
            part = islice(texts, count // samples)
            await asyncio.gather(*(_caller(client, rng, part) for _ in range(CALLERS)))
            done = number * (count // samples)
            rows.append({"requests": done, "resident MiB": server.resident_bytes / MIB})
    return rows


async def _caller(client: GuardClient, rng: random.Random, texts: Iterator[Conversation]) -> None:
    for text in texts:
        await mixed_request(client, rng, text)


async def embedded_sizes(server: GuardProcess, count: int, num_bytes: int) -> dict[str, Any]:
    """The embedded guard's memory when loaded, after requests, and at its peak."""
    rng = random.Random(2)
    sizes: dict[str, Any] = {"loaded MiB": server.resident_bytes / MIB}
    sizes["peak of loading MiB"] = server.peak_resident_bytes / MIB
    async with GuardClient(server.target) as client:
        for _ in track(range(count), "embedded guard"):
            text = (Message(Role.USER, everyday_text(rng)),)
            await mixed_request(client, rng, text)
        sizes[f"after {count} requests MiB"] = server.resident_bytes / MIB
        longest = " ".join(everyday_text(rng) for _ in range(num_bytes // 40))[:num_bytes]
        with Progress() as progress:
            progress.add_task(f"one text of {num_bytes} bytes", total=None)
            verdict = await client.moderate(
                (Message(Role.USER, longest),), timeout_seconds=PATIENCE_SECONDS
            )
    sizes["longest text, bytes"] = num_bytes
    sizes["longest text, tokens"] = verdict.usage.body_tokens
    sizes["longest text, windows"] = verdict.coverage.num_windows
    sizes["after the longest text MiB"] = server.resident_bytes / MIB
    sizes["peak MiB"] = server.peak_resident_bytes / MIB
    return sizes


def main(
    *,
    requests: int = 20_000,
    samples: int = 20,
    embedded_requests: int = 300,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Measure growth first, then the embedded guard."""
    longest = 8_192 if quick else LONGEST_BYTES
    if quick:
        requests, samples, embedded_requests = 400, 4, 4
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_grammatical_llama(Path(scratch), 1, SMALL)
        with GuardProcess(folder, **PATIENT) as server:
            rows = asyncio.run(growth(server, requests, samples))
    with GuardProcess(**PATIENT) as server:
        sizes = asyncio.run(embedded_sizes(server, embedded_requests, longest))
    grown = rows[-1]["resident MiB"] - rows[samples // 4]["resident MiB"]
    show(f"Small model; {grown:+.1f} MiB over the last three quarters", rows)
    show("Embedded guard", [{"measure": name, "value": value} for name, value in sizes.items()])
    results = {"growth": rows, "grown_mib": grown, "embedded": sizes}
    write("memory", results, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
