"""What hold-back costs and what it stops, for several settings of its checkpoints.

Labelled answers are played at a stated speed, on a virtual clock on which every check takes a
stated time, through the real pipeline with the embedded guard. Told for each setting: how long the
first text is delayed where any gets out, how much of unsafe answers gets out (of all, and of those
that the guard finds unsafe when it reads them whole), how much of safe ones, and what the guard
reads for 1,000 characters.
`benchmarks.hold_back_chart` draws the result.
"""

import asyncio
import gzip
import json
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.progress import track
from transformers import AutoTokenizer

from benchmarks.guard_models import embedded_engine, embedded_folder
from benchmarks.prefill_tokens import num_answer_tokens
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from chat_gateway.chat import ChatMessage, ChatRequest, Judged, TextDelta
from chat_gateway.observer import NullObserver
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import Role, Verdict
from tests.chat_gateway.engine_guard import POLICY, EngineGuard
from tests.chat_gateway.fakes import ScriptedGenerator, Stall, answer, verdict
from tests.chat_gateway.virtual_time import run_virtually

CHARACTERS_PER_TOKEN = 4
HOUR = 3600.0

WHOLE = "buffer"
SETTINGS = {
    WHOLE: GatewayPolicy(mode=Mode.BUFFER),
    "tight 20/80/160": GatewayPolicy(
        checkpoints=Checkpoints(first_characters=20, every_characters=80, max_every_characters=160)
    ),
    "default 40/160/640": GatewayPolicy(),
    "default, grey from 0.3": GatewayPolicy(hold_from=0.3),
    "wide 160/640/1280": GatewayPolicy(
        checkpoints=Checkpoints(
            first_characters=160, every_characters=640, max_every_characters=1280
        )
    ),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled answer with what it answers."""

    messages: tuple[ChatMessage, ...]
    answer: str
    unsafe: bool


class AnswersOnly(EngineGuard):
    """Lets every prompt pass: the answer is what is measured."""

    async def moderate(self, *_: Any, **__: Any) -> Verdict:
        """Safe."""
        return verdict(0.0)


@dataclass(frozen=True, slots=True)
class Played:
    """How one answer went. Times are the virtual clock's, in seconds."""

    row: Row
    first_text_delay: float | None
    num_released: int
    num_checks: int
    num_tokens: int

    @property
    def passed(self) -> bool:
        """Whether all of it got out."""
        return self.num_released == len(self.row.answer)


def read_rows(path: Path, num_each: int, min_characters: int) -> list[Row]:
    """Answers of each label that are long enough to be held in parts, from all over the file."""
    found: dict[str, list[Row]] = {"safe": [], "unsafe": []}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for each in map(json.loads, lines):
            text = each["messages"][-1]["content"]
            if each["role"] != "agent" or len(text) < min_characters:
                continue
            before = tuple(ChatMessage(Role(m["role"]), m["content"]) for m in each["messages"])
            found[each["label"]].append(Row(before[:-1], text, each["label"] == "unsafe"))
    return [
        row for rows in found.values() for row in rows[:: max(1, len(rows) // num_each)][:num_each]
    ]


async def play(
    engine: TransformersEngine,
    row: Row,
    policy: GatewayPolicy,
    *,
    tokens_per_second: float,
    check_seconds: float,
    num_answer_tokens: int,
) -> Played:
    """Send one answer through the pipeline at the generator's speed."""
    pause = Stall(1 / tokens_per_second)
    script = [
        step for each in answer(row.answer, piece=CHARACTERS_PER_TOKEN) for step in (pause, each)
    ]
    session = engine.open_session()
    guard = AnswersOnly(engine=engine, session=session, check_seconds=check_seconds)
    pipeline = ChatPipeline(guard, ScriptedGenerator(script), NullObserver())
    request = ChatRequest(row.messages, "scripted")
    first_text: float | None = None
    num_released = num_checks = 0
    began = asyncio.get_running_loop().time()
    async for event in pipeline.chat(
        request, policy, request_id="", deadline=time.monotonic() + HOUR
    ):
        if isinstance(event, TextDelta):
            num_released += len(event.text)
            if first_text is None:
                first_text = asyncio.get_running_loop().time() - began - pause.seconds
        elif isinstance(event, Judged) and event.choice is not None:
            num_checks += 1
    session.close()
    num_tokens = guard.num_tokens + num_checks * num_answer_tokens
    return Played(row, first_text, num_released, num_checks, num_tokens)


def summary(name: str, played: Sequence[Played], found: Container[Row]) -> dict[str, Any]:
    """One setting in one line; `found` are answers the guard finds unsafe when it reads all."""
    safe = [each for each in played if not each.row.unsafe]
    unsafe = [each for each in played if each.row.unsafe]
    delays = [each.first_text_delay for each in played if each.first_text_delay is not None]
    passed = [each for each in safe if each.passed]
    num_passed = sum(len(each.row.answer) for each in passed) / 1000
    return {
        "checkpoints": name,
        "first text later s": median(delays) if delays else None,
        "any text out": len(delays),
        "unsafe text out %": share_out(unsafe),
        "of found %": share_out([each for each in unsafe if each.row in found]),
        "safe text out %": share_out(safe),
        "unsafe out whole": sum(each.passed for each in unsafe),
        "safe cut": len(safe) - len(passed),
        "checks per 1,000": sum(e.num_checks for e in passed) / num_passed if passed else None,
        "tokens per 1,000": sum(e.num_tokens for e in passed) / num_passed if passed else None,
    }


def share_out(played: Sequence[Played]) -> float | None:
    """Per cent of all their characters that got out."""
    total = sum(len(each.row.answer) for each in played)
    return 100 * sum(each.num_released for each in played) / total if total else None


def main(
    data: Annotated[Path, typer.Argument(help="Gzipped JSON lines of labelled answers.")],
    *,
    num_each: int = 20,
    min_characters: int = 400,
    tokens_per_second: float = 50.0,
    check_seconds: float = 0.05,
    threads: Threads = 0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Play the same answers through every setting."""
    engine = embedded_engine()
    use_threads(threads)
    engine.prepare(len(POLICY.categories))
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    vocabulary = Vocabulary.from_pretrained_tokenizer(tokenizer)
    rows = read_rows(data, 2 if quick else num_each, min_characters)
    played = {
        name: [
            run_virtually(
                play(
                    engine,
                    row,
                    policy,
                    tokens_per_second=tokens_per_second,
                    check_seconds=check_seconds,
                    num_answer_tokens=num_answer_tokens(vocabulary, POLICY),
                )
            )
            for row in track(rows, name)
        ]
        for name, policy in SETTINGS.items()
    }
    found = [each.row for each in played[WHOLE] if not each.passed]
    lines = [summary(name, each, found) for name, each in played.items()]
    show(
        f"{len(rows)} answers at {tokens_per_second:g} tokens/s, {check_seconds:g} s a check", lines
    )
    results = {
        "safe answers": sum(not row.unsafe for row in rows),
        "unsafe answers": sum(row.unsafe for row in rows),
        "found unsafe when whole": sum(row.unsafe for row in found),
        "tokens per second": tokens_per_second,
        "seconds per check": check_seconds,
        "rows": lines,
    }
    write("hold_back_cost", results, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
