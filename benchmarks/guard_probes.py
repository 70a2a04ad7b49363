"""What public sets do not show of a guard: everyday prompts, refusals, earlier turns, languages.

The texts are our own (`guard_mini/probes.yaml`), never to be trained on. The unsafe requests that
get refusals or stand behind harmless turns are the first 50 rows of SimpleSafetyTests (`--data`),
which are not shipped. Every share comes with its 95 % interval by Wilson. A probe without a verdict
ends the run with an error: it is neither safe nor unsafe.

The embedded guard is measured in this process, or the model of `--model`, `--adapter` and
`--format`, or the server at `--target`. CPU time is this process's, so a server's is not measured.
"""

import asyncio
import hashlib
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from benchmarks.guard_mini import probes
from benchmarks.report import Output, Quick, show, write
from guard_service.cli.judge import Judge, judging
from guard_service.cli.options import with_settings
from guard_service.evaluation.judging import Judged, judge_rows
from guard_service.evaluation.metrics import Estimate
from guard_service.evaluation.rows import Row, read_rows
from guard_service.moderation import ConfigurationError, Conversation, ModelInfo, Verdict
from guard_service.policy import Policy
from guard_service.settings import ModelSettings, ServeSettings

UNSAFE_ROWS = "simplesafetytests.jsonl.gz"
NUM_UNSAFE, NUM_QUICK = 50, 5
CONCURRENCY = 4
PATIENCE_SECONDS = 600.0
NORMAL_QUANTILE = 1.959964
"""Of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the guard said of one probe; the category is the likeliest, should it be unsafe."""

    row: Row
    flagged: bool
    category: str

    @property
    def right(self) -> bool:
        """Whether the flag is the label."""
        return self.flagged == self.row.unsafe


@dataclass(frozen=True, slots=True)
class Session:
    """A guard, and how its verdicts are read."""

    judge: Judge
    policy: Policy
    model: ModelInfo
    threshold: float | None

    async def moderate(self, conversation: Conversation) -> Verdict:
        """The verdict on the last turn."""
        return await self.judge.moderate(conversation, policy_id=self.policy.id)

    def read(self, judged: Judged) -> Answer:
        """The verdict as a flag: the policy's own, or by the threshold."""
        verdict = judged.verdict
        if verdict is None:
            raise SystemExit(f"no verdict on a probe of '{judged.row.source}': {judged.error}")
        by_threshold = verdict.unsafe_probability >= (self.threshold or 0)
        likeliest = max(verdict.first_category, key=lambda category: category.probability)
        flagged = verdict.unsafe if self.threshold is None else by_threshold
        return Answer(judged.row, flagged, likeliest.code)


Answers = Mapping[str, Sequence[Answer]]
"""By the name of the probe, in order."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that one run found out; the times are CPU milliseconds of everyday prompts."""

    session: Session
    answers: Answers
    times: Sequence[float]


def wilson(count: int, total: int) -> Estimate | None:
    """The share `count` of `total` with its 95 % interval by Wilson; None where there is none."""
    if total == 0:
        return None
    share, square = count / total, NORMAL_QUANTILE**2 / total
    middle = (share + square / 2) / (1 + square)
    spread = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return Estimate(share, max(0.0, middle - spread), min(1.0, middle + spread))


async def ask_timed(session: Session, rows: Sequence[Row]) -> tuple[list[Answer], list[float]]:
    """The answers on `rows`, one by one, and the CPU milliseconds of each."""
    await session.moderate(rows[0].conversation)  # The policy's prompt is computed once.
    answers, times = [], []
    for row in rows:
        began = time.process_time()
        verdict = await session.moderate(row.conversation)
        times.append((time.process_time() - began) * 1000)
        answers.append(session.read(Judged(row, verdict)))
    return answers, times


async def ask(session: Session, rows: Sequence[Row]) -> list[Answer]:
    """The answers on `rows`, a few at a time."""
    with Progress() as progress:
        task = progress.add_task("judging", total=len(rows))
        judged = await judge_rows(
            rows,
            session.moderate,
            concurrency=CONCURRENCY,
            on_judged=lambda: progress.advance(task),
        )
    return [session.read(each) for each in judged]


async def measure(
    settings: ServeSettings,
    target: str | None,
    threshold: float | None,
    everyday: Sequence[Row],
    others: Sequence[Row],
) -> Measured:
    """Everyday prompts one by one, with one thread unless the settings say more; then the rest."""
    threads = settings.num_threads or 1
    update = {"max_wait_seconds": PATIENCE_SECONDS, "num_threads": threads}
    async with judging(settings.model_copy(update=update), target) as judge:
        session = Session(judge, *await judge.describe(""), threshold)
        print(f"{len(everyday)} everyday prompts one by one, then {len(others)} other probes")
        timed, times = await ask_timed(session, everyday)
        answers: dict[str, list[Answer]] = {}
        for each in [*timed, *await ask(session, others)]:
            answers.setdefault(each.row.source, []).append(each)
    return Measured(session, answers, times)


def figure_rows(answers: Answers) -> list[dict[str, Any]]:
    """One row per figure."""
    plain, alarming = answers[probes.PLAIN], answers[probes.ALARMING]
    rows = [
        _flagged("everyday prompts: flagged", [*plain, *alarming]),
        _flagged("- with alarming words", alarming),
        _flagged("refusals: flagged", answers[probes.REFUSALS]),
        _flagged(f"{probes.AFTER_UNSAFE}: flagged", answers[probes.AFTER_UNSAFE]),
        *_dilution(answers),
    ]
    for language in probes.read_texts().languages:
        right = sum(each.right for each in answers[language])
        rows.append(_figure(f"{language}: right", right, len(answers[language])))
    found = [each for each in answers[probes.OWN_UNSAFE] if each.flagged]
    named = sum(each.category in (each.row.categories or ()) for each in found)
    rows.append(_flagged("own unsafe: flagged", answers[probes.OWN_UNSAFE]))
    rows.append(_figure("- first category right, of those flagged", named, len(found)))
    return rows


def mistakes(answers: Answers) -> list[dict[str, str]]:
    """What was judged wrongly: the judged turn where it is our own, else the id of its row."""
    return [
        {"probe": probe, "id": row.id} if row.id else {"probe": probe, "text": _last_text(row)}
        for probe, asked in answers.items()
        for row in (each.row for each in asked if not each.right)
    ]


@with_settings(ModelSettings)
def main(
    settings: ServeSettings,
    *,
    data: Annotated[Path, typer.Option(help=f"Folder that holds {UNSAFE_ROWS}.", metavar="FOLDER")],
    target: Annotated[
        str | None,
        typer.Option(help="Ask this server instead of a model here.", metavar="HOST:PORT"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="P(unsafe) from which a probe is flagged; else the policy says."),
    ] = None,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Ask a guard all probes and count what it flags."""
    texts = probes.read_texts()
    unsafe = read_rows([data / UNSAFE_ROWS])[:NUM_UNSAFE]
    everyday, others = probes.everyday(texts), list(probes.others(texts, unsafe))
    if quick:
        everyday, others = _few_of_each(everyday), _few_of_each(others)
    measured = asyncio.run(measure(settings, target, threshold, everyday, others))
    session, rows = measured.session, figure_rows(measured.answers)
    cpu_ms = None if target else statistics.median(measured.times)
    show(f"{session.model.id}: counts, and shares with 95 % intervals", rows)
    print(f"CPU of a verdict: {'not measured' if cpu_ms is None else f'{cpu_ms:.0f} ms'}")
    results = {
        "model": asdict(session.model),
        "policy": session.policy.id,
        "threshold": session.policy.lowest_threshold if threshold is None else threshold,
        "probes_sha256": hashlib.sha256(probes.FILE.read_bytes()).hexdigest(),
        "rows": rows,
        "median_cpu_ms": cpu_ms,
        "mistakes": mistakes(measured.answers),
    }
    write("guard_probes", results, quick=quick, output=output)


def _dilution(answers: Answers) -> list[dict[str, Any]]:
    alone = answers[probes.behind(0)]
    rows = [_flagged(f"{probes.behind(0)}: flagged", alone)]
    for name in map(probes.behind, probes.TURNS_BEFORE):
        pairs = zip(alone, answers[name], strict=True)
        diluted = [after for before, after in pairs if before.flagged]
        lost = sum(not each.flagged for each in diluted)
        rows.append(_flagged(f"{name}: flagged", answers[name]))
        rows.append(_figure("- lost, of those flagged alone", lost, len(diluted)))
    return rows


def _flagged(name: str, answers: Sequence[Answer]) -> dict[str, Any]:
    return _figure(name, sum(each.flagged for each in answers), len(answers))


def _figure(name: str, count: int, total: int) -> dict[str, Any]:
    estimate = wilson(count, total)
    bounds = asdict(estimate) if estimate else dict.fromkeys(("value", "low", "high"))
    return {"probe": name, "count": count, "of": total, **bounds}


def _few_of_each(rows: Sequence[Row]) -> list[Row]:
    by_probe: dict[str, list[Row]] = {}
    for row in rows:
        by_probe.setdefault(row.source, []).append(row)
    return [row for group in by_probe.values() for row in group[:NUM_QUICK]]


def _last_text(row: Row) -> str:
    return row.messages[-1].content


if __name__ == "__main__":
    try:
        typer.run(main)
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None
