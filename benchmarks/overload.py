"""What is still answered in time when far more is asked than the guard can judge.

A stand-in engine of known speed behind the real server; callers come at a fixed rate, whether or
not earlier ones were answered (open loop), each with a deadline. Goodput is what was answered in
time, per second; its share is of what the engine can do.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import typer
from rich.progress import track

from benchmarks.guard_models import FORMAT
from benchmarks.report import Output, Quick, show, write
from guard_service.batcher import Batcher
from guard_service.client import GuardClient
from guard_service.engine.protocol import Judgement, Scores
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.server import GuardServer
from guard_service.limits import Limits
from guard_service.logs import configure_logs
from guard_service.metrics import Metrics
from guard_service.moderation import Message, ModerationError, Role
from guard_service.moderator import Moderator
from guard_service.policy import default_policy
from tests.fakes import FakeEngine, scores

POLICY = default_policy("llama-guard-2")
TEXT = "How do I bake bread on a rainy day in the mountains?"
TOKENS_PER_SECOND = 1000.0
MAX_BATCH_TOKENS = 200


class SteadyEngine(FakeEngine):
    """Takes a fixed time per token; `num_tokens` is what its last judgement had."""

    num_tokens = 0

    def score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        """Everything is safe, after the time its tokens take."""
        self.num_tokens = batch[-1].num_new_tokens
        time.sleep(sum(each.num_new_tokens for each in batch) / TOKENS_PER_SECOND)
        return [scores(0.1, each.num_categories) for each in batch]


async def offer(
    client: GuardClient, per_second: float, seconds: float, deadline_seconds: float
) -> tuple[Counter[str], list[float]]:
    """Outcomes of callers that come at this rate, and the seconds of those answered."""
    outcomes: Counter[str] = Counter()
    answered: list[float] = []

    async def call() -> None:
        began = time.perf_counter()
        try:
            await client.moderate((Message(Role.USER, TEXT),), timeout_seconds=deadline_seconds)
        except ModerationError as error:
            outcomes[type(error).__name__] += 1
        else:
            outcomes["answered"] += 1
            answered.append(time.perf_counter() - began)

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as callers:
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(began + number / per_second - loop.time())
            callers.create_task(call())
    return outcomes, sorted(answered)


async def measure(
    factors: Sequence[float], seconds: float, deadline_seconds: float
) -> list[dict[str, Any]]:
    """One row per factor of the engine's capacity."""
    engine = SteadyEngine()
    metrics = Metrics(category.code for category in POLICY.categories)
    batcher = Batcher(
        engine,
        max_batch_tokens=MAX_BATCH_TOKENS,
        max_queue_items=100_000,
        max_queue_tokens=10_000_000,
        observer=metrics,
    )
    moderator = Moderator(
        engine=engine,
        prompt_format=FORMAT,
        policies={POLICY.id: POLICY},
        default_policy_id=POLICY.id,
        batcher=batcher,
        limits=Limits(),
        observer=metrics,
    )
    rows = []
    async with GuardServer(moderator, batcher, ServerOptions(port=0), metrics) as server:
        await server.welcome()
        async with GuardClient(f"127.0.0.1:{server.port}") as client:
            await client.moderate((Message(Role.USER, TEXT),))
            capacity = TOKENS_PER_SECOND / engine.num_tokens
            for factor in track(factors, "offered load"):
                outcomes, answered = await offer(
                    client, factor * capacity, seconds, deadline_seconds
                )
                rows.append(_row(factor, capacity, seconds, outcomes, answered))
    return rows


def _row(
    factor: float,
    capacity: float,
    seconds: float,
    outcomes: Counter[str],
    answered: Sequence[float],
) -> dict[str, Any]:
    goodput = outcomes["answered"] / seconds
    return {
        "offered, x capacity": factor,
        "callers": outcomes.total(),
        "answered in time": outcomes["answered"],
        "goodput, share of capacity": goodput / capacity,
        "p99 of the answered ms": 1000 * answered[int(0.99 * len(answered))],
        "refused": outcomes["Overloaded"],
        "expired": outcomes["DeadlineExceeded"],
    }


def main(
    *,
    seconds: float = 10.0,
    deadline_seconds: float = 1.0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Offer half of what the engine can do, all of it, and 2, 5 and 10 times as much."""
    factors = (1.0, 5.0) if quick else (0.5, 1.0, 2.0, 5.0, 10.0)
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        configure_logs("json", "info")  # a line per call, as in service
        rows = asyncio.run(measure(factors, 2.0 if quick else seconds, deadline_seconds))
    show(f"Callers with a deadline of {deadline_seconds:g} s", rows)
    write(
        "overload", {"deadline_seconds": deadline_seconds, "rows": rows}, quick=quick, output=output
    )


if __name__ == "__main__":
    typer.run(main)
