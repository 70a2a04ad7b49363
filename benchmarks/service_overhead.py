"""What the service adds to the engine.

At concurrency 1: the time of an RPC when the engine answers at once, so that what is left is gRPC,
validation, rendering, real tokenising and the queue. At concurrency 32: the throughput of a real
server process, asked by 32 callers, as a share of the bare engine's on the same requests; the two
take turns.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import typer
from rich.progress import track

from benchmarks.guard_models import EMBEDDED_FORMAT, embedded_engine
from benchmarks.guard_process import GuardProcess
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from benchmarks.verdict_throughput import engine_judge
from benchmarks.workload import NAMES, Request, conversations
from guard_service.batcher import Batcher
from guard_service.client import GuardClient
from guard_service.engine.protocol import Judgement, Scores, Segments, Session
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.server import GuardServer
from guard_service.limits import Limits
from guard_service.logs import configure_logs
from guard_service.metrics import Metrics
from guard_service.moderation import Conversation, ModelInfo, ModerationError
from guard_service.moderator import Moderator
from guard_service.prompt_formats.prompt import Prompt

CALLERS = 32


class InstantEngine:
    """Tokenises for real and answers at once."""

    def __init__(self, engine: TransformersEngine) -> None:
        self._engine = engine

    @property
    def info(self) -> ModelInfo:
        """That of the real engine."""
        return self._engine.info

    @property
    def max_context_tokens(self) -> int:
        """That of the real engine."""
        return self._engine.max_context_tokens

    def prepare(self, num_categories: int) -> None:
        """Nothing to prepare."""

    def encode(self, prompt: Prompt) -> Segments:
        """Tokenise for real."""
        return self._engine.encode(prompt)

    def token_ends(self, text: str) -> list[int]:
        """Tokenise for real."""
        return self._engine.token_ends(text)

    def open_session(self) -> Session:
        """A real session, unused."""
        return self._engine.open_session()

    def score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        """Safe, at once."""
        return [Scores(0.1, (1 / j.num_categories,) * j.num_categories) for j in batch]


async def rpc_seconds(
    engine: TransformersEngine, asked: Sequence[Conversation], count: int
) -> list[float]:
    """Seconds of each of `count` calls in a row, over loopback, with an instant engine."""
    instant, metrics = InstantEngine(engine), Metrics(c.code for c in NAMES.categories)
    batcher = Batcher(
        instant,
        max_batch_tokens=1024,
        max_queue_items=1024,
        max_queue_tokens=65_536,
        observer=metrics,
    )
    moderator = Moderator(
        engine=instant,
        prompt_format=EMBEDDED_FORMAT,
        policies={NAMES.id: NAMES},
        default_policy_id=NAMES.id,
        batcher=batcher,
        limits=Limits(),
        observer=metrics,
    )
    seconds = []
    async with GuardServer(moderator, batcher, ServerOptions(port=0), metrics) as server:
        await server.welcome()
        async with GuardClient(f"127.0.0.1:{server.port}") as client:
            for number in track(range(count + 100), "calls, one at a time"):
                began = time.perf_counter()
                await client.moderate(asked[number % len(asked)])
                seconds.append(time.perf_counter() - began)
    return seconds[100:]


async def service_seconds(target: str, asked: Sequence[Conversation]) -> float:
    """Seconds the server takes for all of these, asked by so many callers at once."""
    waiting = list(asked)
    async with GuardClient(target) as client:

        async def call() -> None:
            while waiting:
                await client.moderate(waiting.pop(), timeout_seconds=600)

        await client.moderate(asked[0], timeout_seconds=600)
        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return time.perf_counter() - began


def shares(
    engine: TransformersEngine, asked: Sequence[Conversation], rounds: int
) -> list[dict[str, Any]]:
    """Bare engine and server on the same requests; which goes first changes every round."""
    judge = engine_judge(engine)
    requests = [Request(conversation, NAMES) for conversation in asked]

    def bare_seconds() -> float:
        began = time.perf_counter()
        for start in range(0, len(requests), CALLERS):
            judge(requests[start : start + CALLERS])
        return time.perf_counter() - began

    judge(requests[:1])
    rows = []
    with GuardProcess(max_wait_seconds=600) as server:
        for number in track(range(rounds), f"rounds of {len(asked)}"):
            bare = bare_seconds() if number % 2 == 0 else 0.0
            served = asyncio.run(service_seconds(server.target, asked))
            bare = bare or bare_seconds()
            rows.append(
                {
                    "round": number + 1,
                    "bare engine, verdicts/s": len(asked) / bare,
                    "service, verdicts/s": len(asked) / served,
                    "share": bare / served,
                }
            )
    return rows


def main(
    *,
    calls: int = 2000,
    requests: int = 96,
    rounds: int = 5,
    seed: int = 1,
    threads: Threads = 0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Measure both; the service's share is the median over the rounds."""
    use_threads(threads)
    calls, requests, rounds = (200, 8, 1) if quick else (calls, requests, rounds)
    engine = embedded_engine()
    asked = conversations(engine, requests, seed)
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        configure_logs("json", "info")  # a line per call, as in service
        seconds = sorted(asyncio.run(rpc_seconds(engine, asked, calls)))
    overhead = {
        "calls": calls,
        "p50 ms": 1000 * statistics.median(seconds),
        "p99 ms": 1000 * seconds[int(0.99 * len(seconds))],
    }
    rounds_taken = shares(engine, asked, rounds)
    share = statistics.median(row["share"] for row in rounds_taken)
    show("Added by gRPC, tokenising and the queue, one call at a time", [overhead])
    show(f"Throughput with {CALLERS} callers; median share {share:.3f}", rounds_taken)
    results = {"overhead": overhead, "rounds": rounds_taken, "median_share": share}
    write("service_overhead", results, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
