"""Many answers streamed at once, for long: is any broken, and does the server's memory grow?

The generator is slow and the guard instant; the server is a process of its own. A first round of
the same answers, written faster, lets the server reach its size; then the memory is sampled.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer

from benchmarks.gateway_overhead import PATH, TOKEN, summary
from benchmarks.gateway_stand_in import StandInProcess, chat_body
from benchmarks.lean_http import connected, post
from benchmarks.report import MIB, Output, Quick, show, write

SECONDS_APART = 0.25
WARM_UP_SPEED = 4
ENDING = b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


async def outcome(port: int, num_tokens: int, seconds_apart: float, delays: list[float]) -> str:
    """Read one stream to its end: `whole`, or what is wrong with it."""
    body = chat_body(num_tokens, seconds_apart, stream=True)
    written, said = [], b""
    try:
        async with connected(port) as connection:
            async for piece in connection.ask(post(PATH, body, {})):
                now, new = time.monotonic_ns(), [int(each) for each in TOKEN.findall(piece)]
                delays += [(now - each) / 1e9 for each in new]
                written += new
                said = (said + piece)[-len(ENDING) :]
    except (OSError, EOFError, RuntimeError) as error:
        return type(error).__name__
    if len(written) != num_tokens or any(later <= earlier for earlier, later in pairwise(written)):
        return f"{len(written)} tokens of {num_tokens}, or out of order"
    return "whole" if said == ENDING else "ended otherwise"


async def held(
    server: StandInProcess, streams: int, num_tokens: int, seconds_apart: float
) -> tuple[Counter[str], list[float], list[int]]:
    """So many streams of so many tokens: outcomes, delays, resident bytes by second."""
    delays: list[float] = []
    reading = asyncio.gather(
        *(outcome(server.port, num_tokens, seconds_apart, delays) for _ in range(streams))
    )
    sizes = []
    while not reading.done():
        sizes.append(int(server.system.memory_info().rss))
        await asyncio.wait([reading], timeout=1)
    return Counter(await reading), delays, sizes


def growth(sizes: Sequence[int]) -> dict[str, Any]:
    """The size while all streams run: the first quarter of the time after they began, the last."""
    quarter = max(1, len(sizes) // 4)
    early = statistics.median(sizes[1 : 1 + quarter]) / MIB
    late = statistics.median(sizes[-1 - quarter : -1]) / MIB
    return {"MiB, first quarter": early, "MiB, last quarter": late, "grown by MiB": late - early}


def main(
    *, streams: int = 200, seconds: float = 60.0, quick: Quick = False, output: Output = None
) -> None:
    """Hold the streams, and exit with 1 if any was broken."""
    streams, seconds = (20, 5.0) if quick else (streams, seconds)
    num_tokens = round(seconds / SECONDS_APART)
    with StandInProcess() as server:
        idle = server.system.memory_info().rss / MIB
        asyncio.run(held(server, streams, num_tokens, SECONDS_APART / WARM_UP_SPEED))
        cpu = server.cpu_seconds
        began = time.monotonic()
        outcomes, delays, sizes = asyncio.run(held(server, streams, num_tokens, SECONDS_APART))
        took = time.monotonic() - began
        cpu = server.cpu_seconds - cpu
        after = server.system.memory_info().rss / MIB
    row = {
        "streams": streams,
        "seconds": took,
        "whole": outcomes["whole"],
        "broken": streams - outcomes["whole"],
        "tokens": len(delays),
        **growth(sizes),
        "MiB after": after,
        "server CPU share": cpu / took,
    }
    show("Streams held at once", [row])
    show("Each token until it is read, its time held for a checkpoint included", [summary(delays)])
    results = {
        "row": row,
        "outcomes": dict(outcomes),
        "idle_mib": idle,
        "delays": summary(delays),
        "resident_mib_by_second": [round(size / MIB, 2) for size in sizes],
    }
    write("gateway_streams", results, quick=quick, output=output)
    raise typer.Exit(1 if row["broken"] else 0)


if __name__ == "__main__":
    typer.run(main)
