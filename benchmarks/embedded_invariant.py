"""Is anything released that the guard has not judged safe? Thousands of answers, the real model.

Scripted answers: harmful sentences at any offset, cut anywhere, tool calls, two choices, stalls,
crashes. Some go from a real model server, with bytes cut anywhere, through the gateway's pipeline
to the embedded guard behind its gRPC server. Many more go through the same pipeline on a virtual
clock: only so many of these differ in their words, and the embedded guard reads each beginning of
them once. Ends with an error at the first character that is released unjudged, or any other broken
promise; `tests/chat_gateway/judged_streams.py` says what is promised.
"""

import asyncio
import logging
from typing import Any

import structlog
import typer
from rich.progress import track

from benchmarks.guard_models import embedded_engine
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from guard_service.engine.protocol import Engine
from guard_service.moderation import Conversation, Verdict
from tests.chat_gateway.answers_by_chance import KINDS, Scenario, scenarios
from tests.chat_gateway.engine_guard import POLICY
from tests.chat_gateway.judged_streams import MAX_DIFFERENCE, Tally, prove_all, real_guard
from tests.chat_gateway.replayed_streams import prove_replayed
from tests.chat_gateway.virtual_time import run_virtually


async def whole_way(engine: Engine, wanted: list[Scenario], at_once: int) -> Tally:
    """From a model server over HTTP to the guard's own server."""
    async with real_guard(engine) as client:
        return await prove_all(client, track(wanted, "whole way"), at_once=at_once)


def row(name: str, num_verdicts: int, tally: Tally) -> dict[str, Any]:
    """How answers ended that kept every promise."""
    return {
        "streams": tally.streams,
        "way": name,
        "verdicts of the model": num_verdicts,
        "checks": tally.checks,
        "passed": tally.choices_passed,
        "blocked": tally.choices_blocked,
        "after some text": tally.choices_blocked_after_some_text,
        "crashed": tally.crashed,
        "released characters": tally.characters_released,
        "max difference to unary": tally.max_difference,
    }


def main(
    *,
    streams: int = 100,
    replayed: int = 10_000,
    wordings: int = len(KINDS),
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
    engine.prepare(len(POLICY.categories))
    known: dict[Conversation, Verdict] = {}
    many = scenarios(80 if quick else replayed, seed=seed, num_wordings=wordings)
    replay = run_virtually(prove_replayed(engine, track(many, "replayed"), known))
    rows = [row("replayed", len(known), replay)]
    few = scenarios(8 if quick else streams, seed=seed)
    whole = asyncio.run(whole_way(engine, few, at_once))
    rows.append(row("whole way", whole.checks + len(whole.unary), whole))
    show(f"Every promise held; verdicts may differ by {MAX_DIFFERENCE:g}", rows)
    results = {"seed": seed, "wordings": wordings, "rows": rows}
    write("embedded_invariant", results, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
