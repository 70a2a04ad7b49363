"""SIGTERM with accepted requests in flight: every one must be answered, and the exit code be 0."""

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import typer
from rich.progress import track

from benchmarks.guard_process import GuardProcess
from benchmarks.report import Output, Quick, show, write
from guard_service.client import GuardClient
from guard_service.moderation import Conversation, Message, ModerationError, Role
from tests.conversations import random_conversations
from tests.models import SMALL, save_grammatical_llama

LONG_TEXT = "A long tale of the sea. " * 60  # enough work that most of the requests have to wait
ANSWER_SECONDS = 120.0


async def drain_once(server: GuardProcess, count: int, seed: int) -> dict[str, Any]:
    """Send `count` requests, stop the server while it has them all, and count the outcomes."""
    async with GuardClient(server.target) as client:
        await client.moderate((Message(Role.USER, "Hello"),))
        asked = [
            asyncio.create_task(_outcome(client, (*conversation, *_ending(conversation))))
            for conversation in random_conversations(seed, count)
        ]
        await _queue_is_full(server)
        server.terminate()
        began = time.monotonic()
        outcomes = Counter(await asyncio.gather(*asked))
    exit_code = await asyncio.to_thread(server.process.wait, ANSWER_SECONDS)
    return {
        "in flight at SIGTERM": server.wait_for("draining")["num_requests"],
        "answered": outcomes["answered"],
        "lost": count - outcomes["answered"],
        "errors": ", ".join(name for name in outcomes if name != "answered") or "-",
        "exit code": exit_code,
        "seconds": round(time.monotonic() - began, 1),
    }


async def _queue_is_full(server: GuardProcess) -> None:
    """Wait until the queue is the longest that these requests make it."""
    longest = 0.0
    while (waiting := await asyncio.to_thread(server.metric, "guard_queue_items")) >= longest:
        longest = waiting


async def _outcome(client: GuardClient, conversation: Conversation) -> str:
    try:
        await client.moderate(conversation, timeout_seconds=ANSWER_SECONDS)
    except ModerationError as error:
        return type(error).__name__
    return "answered"


def _ending(conversation: Conversation) -> Conversation:
    role = Role.ASSISTANT if conversation[-1].role is Role.USER else Role.USER
    return (Message(role, LONG_TEXT),)


def main(
    *, times: int = 10, requests: int = 125, quick: Quick = False, output: Output = None
) -> None:
    """Drain a small random model several times, and exit with 1 if anything was lost."""
    times = 2 if quick else times
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_grammatical_llama(Path(scratch), 1, SMALL)
        for number in track(range(times), "drains"):
            settings = {"max_wait_seconds": ANSWER_SECONDS, "max_queue_tokens": 1_000_000}
            with GuardProcess(folder, **settings) as server:
                rows.append(asyncio.run(drain_once(server, requests, number)))
    show(f"SIGTERM after {requests} requests were sent", rows)
    write("drain", {"requests": requests, "rows": rows}, quick=quick, output=output)
    raise typer.Exit(1 if any(row["lost"] or row["exit code"] for row in rows) else 0)


if __name__ == "__main__":
    typer.run(main)
