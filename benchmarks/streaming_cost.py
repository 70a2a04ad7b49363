"""What it costs to check a growing answer again and again.

An answer of 400 tokens is checked every 20 tokens: with the engine's session, which keeps what it
has read; with the engine but without the session; and with `generate` on the whole prompt. The
three take turns, check by check.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import typer
from rich.progress import track

from benchmarks.guard_models import (
    RANDOM_SHAPES,
    embedded_engine,
    embedded_plain,
    random_pair,
)
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from benchmarks.verdict_throughput import Judge, generate_judge
from benchmarks.workload import DESCRIBED, NAMES, Request, text_of_length
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.moderation import Message, Role
from guard_service.policy import Policy
from tests.conversations import ANSWERS

QUESTION = Message(Role.USER, "Tell me a long story about the sea.")
SESSION, WITHOUT, GENERATE = "session", "no session", "generate"
POLICIES = {"names": NAMES, "described": DESCRIBED}
SAFE_ANSWER_TOKENS = 2
"""Tokens of a safe answer and its end: what a random model, which never ends, is allowed."""

Check = Callable[[Request], None]
Stream = Sequence[Request]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model in this engine, and what the same weights are asked in plain transformers."""

    name: str
    engine: TransformersEngine
    generate: Judge


def subjects(names: Sequence[str], scratch: Path) -> Iterator[Subject]:
    """The models of these names, one after another."""
    for name in names:
        if name == "embedded":
            yield Subject(name, embedded_engine(), generate_judge(embedded_plain(), padded=False))
        else:
            engine, plain = random_pair(RANDOM_SHAPES[name], scratch / name.replace(" ", "-"))
            judge = generate_judge(plain, padded=False, max_new_tokens=SAFE_ANSWER_TOKENS)
            yield Subject(name, engine, judge)


def checks(
    engine: TransformersEngine, policy: Policy, num_tokens: int, step: int, seed: int
) -> Stream:
    """The conversation after every `step` tokens of the answer."""
    answer = text_of_length(engine, num_tokens, random.Random(seed), ANSWERS)
    ends = engine.token_ends(answer)
    return [
        Request((QUESTION, Message(Role.ASSISTANT, answer[:end])), policy)
        for end in ends[step - 1 :: step]
    ]


def time_stream(subject: Subject, stream: Stream, turn: int) -> dict[str, list[float]]:
    """CPU seconds of every check, by variant."""
    engine = subject.engine
    session = engine.open_session()

    def with_session(request: Request) -> None:
        engine.score([replace(request.judgement(engine), session=session)])

    def without_session(request: Request) -> None:
        engine.score([request.judgement(engine)])

    variants: dict[str, Check] = {
        SESSION: with_session,
        WITHOUT: without_session,
        GENERATE: lambda request: subject.generate([request]),
    }
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number, request in enumerate(track(stream, f"{subject.name}, stream {turn + 1}")):
        first = (number + turn) % len(names)
        for name in (*names[first:], *names[:first]):
            began = time.process_time()
            variants[name](request)
            seconds[name].append(time.process_time() - began)
    session.close()
    return seconds


def allowed_by_tokens(engine: TransformersEngine, stream: Stream) -> dict[str, float]:
    """Tokens per check on average, and the ratio that they alone would give.

    Without answers: the few tokens of them that the session computes, and those `generate` writes.
    """
    segments = [request.judgement(engine).segments for request in stream]
    bodies = [0, *(len(each.body) for each in segments)]
    whole = mean(len(each.prefix) + len(each.body) + len(each.suffix) for each in segments)
    computed = mean(
        len(each.body) - known + len(each.suffix)
        for each, known in zip(segments, bodies, strict=False)
    )
    return {"prompt": whole, "computed": computed, "tokens allow": whole / computed}


def measure(subject: Subject, stream: Stream, rounds: int) -> list[dict[str, Any]]:
    """One row per variant; totals are medians over the rounds."""
    subject.engine.score([stream[0].judgement(subject.engine)])
    subject.generate(stream[:1])
    timed = [time_stream(subject, stream, turn) for turn in range(rounds)]
    allowed = allowed_by_tokens(subject.engine, stream)
    return [
        {
            "variant": name,
            "total ms": 1000 * median(sum(each[name]) for each in timed),
            "first ms": 1000 * median(each[name][0] for each in timed),
            "last ms": 1000 * median(each[name][-1] for each in timed),
            "x generate": median(sum(each[GENERATE]) / sum(each[name]) for each in timed),
        }
        | (allowed if name == SESSION else dict.fromkeys(allowed))
        for name in timed[0]
    ]


def main(
    *,
    tokens: int = 400,
    step: int = 20,
    rounds: int = 3,
    models: str = ",".join(("embedded", *RANDOM_SHAPES)),
    seed: int = 1,
    threads: Threads = 0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Measure CPU time per check, by category names and by described categories."""
    use_threads(threads)
    tokens, rounds = (60, 1) if quick else (tokens, rounds)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for subject in subjects(models.split(","), Path(scratch)):
            subject.engine.prepare(len(NAMES.categories))
            for name, policy in POLICIES.items():
                stream = checks(subject.engine, policy, tokens, step, seed)
                facts = {"model": subject.name, "policy": name}
                rows += [facts | row for row in measure(subject, stream, rounds)]
    show(f"{tokens // step} checks of an answer of {tokens} tokens, CPU time", rows)
    write("streaming_cost", {"checks": tokens // step, "rows": rows}, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
