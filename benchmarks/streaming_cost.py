"""What it costs to check a growing answer again and again.

An answer of 400 tokens is checked every 20 tokens: with the engine's session, which keeps what it
has read; with the engine but without the session; and with `generate` on the whole prompt. The
three take turns, check by check.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import typer
from rich.progress import track

from benchmarks.guard_models import embedded_engine, embedded_plain
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from benchmarks.verdict_throughput import generate_judge
from benchmarks.workload import NAMES, Request, text_of_length
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.moderation import Message, Role
from tests.conversations import ANSWERS

QUESTION = Message(Role.USER, "Tell me a long story about the sea.")
SESSION, WITHOUT, GENERATE = "engine, session", "engine, no session", "generate per check"

Check = Callable[[Request], None]


def checks(engine: TransformersEngine, num_tokens: int, step: int, seed: int) -> list[Request]:
    """The conversation after every `step` tokens of the answer."""
    answer = text_of_length(engine, num_tokens, random.Random(seed), ANSWERS)
    ends = engine.token_ends(answer)
    return [
        Request((QUESTION, Message(Role.ASSISTANT, answer[:end])), NAMES)
        for end in ends[step - 1 :: step]
    ]


def time_stream(
    engine: TransformersEngine, generate: Check, stream: Sequence[Request], turn: int
) -> dict[str, list[float]]:
    """CPU seconds of every check, by variant."""
    session = engine.open_session()

    def with_session(request: Request) -> None:
        engine.score([replace(request.judgement(engine), session=session)])

    def without_session(request: Request) -> None:
        engine.score([request.judgement(engine)])

    variants: dict[str, Check] = {
        SESSION: with_session,
        WITHOUT: without_session,
        GENERATE: generate,
    }
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number, request in enumerate(track(stream, f"stream {turn + 1}")):
        first = (number + turn) % len(names)
        for name in (*names[first:], *names[:first]):
            began = time.process_time()
            variants[name](request)
            seconds[name].append(time.process_time() - began)
    session.close()
    return seconds


def main(
    *,
    tokens: int = 400,
    step: int = 20,
    rounds: int = 3,
    seed: int = 1,
    threads: Threads = 0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Measure CPU time per check; totals are medians over the rounds."""
    use_threads(threads)
    tokens, rounds = (60, 1) if quick else (tokens, rounds)
    engine, plain = embedded_engine(), embedded_plain()
    engine.prepare(len(NAMES.categories))
    judge = generate_judge(plain, padded=False)
    stream = checks(engine, tokens, step, seed)
    engine.score([stream[0].judgement(engine)])
    judge(stream[:1])
    timed = [
        time_stream(engine, lambda request: judge([request]), stream, turn)
        for turn in range(rounds)
    ]
    rows = [_row(name, timed) for name in timed[0]]
    show(f"{len(stream)} checks of an answer of {tokens} tokens, CPU time", rows)
    write("streaming_cost", {"checks": len(stream), "rows": rows}, quick=quick, output=output)


def _row(name: str, timed: Sequence[dict[str, list[float]]]) -> dict[str, Any]:
    return {
        "variant": name,
        "total ms": 1000 * median(sum(each[name]) for each in timed),
        "first check ms": 1000 * median(each[name][0] for each in timed),
        "last check ms": 1000 * median(each[name][-1] for each in timed),
        "x cheaper than generate": median(sum(each[GENERATE]) / sum(each[name]) for each in timed),
    }


if __name__ == "__main__":
    typer.run(main)
