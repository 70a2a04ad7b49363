"""Is anything released that the guard has not judged safe? Many answers through all that is real.

Scripted answers (harmful sentences at any offset, bytes cut anywhere, tool calls, two choices,
stalls, crashes) from a real model server, through the gateway's pipeline, to the embedded guard
behind its gRPC server. Ends with an error at the first broken promise; see
`tests/chat_gateway/judged_streams.py` for what is promised.
"""

import asyncio
import logging
from dataclasses import asdict

import structlog
import typer
from rich.progress import track

from benchmarks.guard_models import embedded_engine
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from tests.chat_gateway.judged_streams import MAX_DIFFERENCE, prove_all, real_guard, scenarios


def main(
    *,
    streams: int = 500,
    at_once: int = 4,
    seed: int = 1,
    threads: Threads = 0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Play the answers and count how they ended."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    engine = embedded_engine()
    use_threads(threads)
    wanted = scenarios(8 if quick else streams, seed=seed)

    async def play() -> dict[str, float]:
        async with real_guard(engine) as client:
            tally = await prove_all(client, track(wanted, "streams"), at_once=at_once)
        return {name: value for name, value in asdict(tally).items() if name != "unary"}

    row = asyncio.run(play())
    show(f"Every promise held; verdicts may differ by {MAX_DIFFERENCE:g}", [row])
    write("embedded_invariant", {"seed": seed, "rows": [row]}, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
