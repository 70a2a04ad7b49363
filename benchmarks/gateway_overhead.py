"""What the gateway adds when guard and generator cost nothing.

Per request: the time of the whole exchange. Per token: the time from the generator's writing it to
the client's reading it. The server is a process of its own, with logs and metrics as in service;
its CPU time stands beside the wall time, because other processes disturb it little.
"""

import asyncio
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import typer
from rich.progress import track

from benchmarks.gateway_stand_in import StandInProcess, chat_body
from benchmarks.lean_http import Connection, connected, get, post
from benchmarks.report import Output, Quick, show, write

CONCURRENCIES = (1, 32)
NUM_TOKENS = 64
SECONDS_APART = 0.02
WARM_UP = 50
PATH = "/v1/chat/completions"
TOKEN = re.compile(rb'"content":"(\d+) "')

Ask = Callable[[Connection], Awaitable[list[float]]]


def exchange(request: bytes) -> Ask:
    """Asks once; the seconds it took."""

    async def ask(connection: Connection) -> list[float]:
        began = time.perf_counter()
        async for _ in connection.ask(request):
            pass
        return [time.perf_counter() - began]

    return ask


def tokens(request: bytes) -> Ask:
    """Asks once; the seconds that each token was on its way."""

    async def ask(connection: Connection) -> list[float]:
        seconds = []
        async for piece in connection.ask(request):
            now = time.monotonic_ns()
            seconds += [(now - int(written)) / 1e9 for written in TOKEN.findall(piece)]
        if len(seconds) != NUM_TOKENS:
            raise RuntimeError(f"{len(seconds)} of {NUM_TOKENS} tokens came")
        return seconds

    return ask


async def measured(
    server: StandInProcess, ask: Ask, count: int, concurrency: int
) -> dict[str, Any]:
    """Ask so many times, so many at once."""
    waiting = list(range(count))
    seconds: list[float] = []

    async def call(connection: Connection) -> None:
        while waiting:
            waiting.pop()
            seconds.extend(await ask(connection))

    async def connect_and_call() -> None:
        async with connected(server.port) as connection:
            await call(connection)

    cpu, began = server.cpu_seconds, time.perf_counter()
    await asyncio.gather(*(connect_and_call() for _ in range(concurrency)))
    return summary(seconds) | {
        "per s": len(seconds) / (time.perf_counter() - began),
        "server CPU ms": 1000 * (server.cpu_seconds - cpu) / len(seconds),
    }


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """How many, and how long."""
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        "p50 ms": 1000 * statistics.median(ordered),
        "p99 ms": 1000 * ordered[int(0.99 * len(ordered))],
    }


def cases() -> list[tuple[str, Ask, float]]:
    """What is asked, how, and for which share of the number of requests."""
    return [
        ("GET /health/live (the web framework alone)", exchange(get("/health/live")), 1),
        *(
            (
                f"request, answer of {count} tokens, {'streamed' if stream else 'whole'}",
                exchange(post(PATH, chat_body(count, 0, stream=stream), {})),
                1,
            )
            for count, stream in ((1, False), (NUM_TOKENS, False), (NUM_TOKENS, True))
        ),
        *(
            (f"token, {policy}", tokens(_streamed(policy)), 1 / NUM_TOKENS)
            for policy in ("annotate", "strict, each token")
        ),
    ]


def _streamed(policy: str) -> bytes:
    body = chat_body(NUM_TOKENS, SECONDS_APART, stream=True)
    return post(PATH, body, {"x-guard-policy": policy})


def main(*, requests: int = 1000, quick: Quick = False, output: Output = None) -> None:
    """Measure each case at each concurrency; per token there are as many tokens as requests."""
    requests = 64 if quick else requests
    rows = []
    with StandInProcess() as server:
        for name, ask, share in track(cases(), "cases"):
            warm_up = max(1, round(WARM_UP * share))
            asyncio.run(measured(server, ask, warm_up, 1))
            for concurrency in CONCURRENCIES:
                count = max(concurrency, round(requests * share))
                result = asyncio.run(measured(server, ask, count, concurrency))
                rows.append({"added per": name, "at once": concurrency, **result})
    show("Added by the gateway; guard and generator cost nothing", rows)
    write("gateway_overhead", {"rows": rows}, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
