"""Two guards are replaced, or one is killed, under load: what do their callers notice?

Real guard processes on a small random model, each at an address of its own, behind one name. The
callers reach them through a stock Envoy, or go round them themselves. The right verdict on every
text is known beforehand, and half of the texts are unsafe. New guards load on the same cores.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from benchmarks.report import Output, Quick, show, write
from guard_service.client import GuardClient
from tests.conversations import random_conversations
from tests.interop.envoy import running_envoy
from tests.interop.fleet import NAME, Command, Fleet, running_fleet
from tests.interop.guard_balancer import balancing_name
from tests.interop.steady_load import Question, Reply, SteadyLoad
from tests.models import SMALL, save_grammatical_llama

NUM_QUESTIONS = 40
CLEAR = 0.05
"""How far from its threshold a score must be: rounding must not make a verdict another one."""
SPARE, NO_SPARE, KILL = (
    "rolling restart, a spare guard",
    "rolling restart, no spare",
    "kill -9 and restart",
)
EVENTS = (SPARE, NO_SPARE, KILL)


class Way(StrEnum):
    """How callers reach the guards."""

    ENVOY = "envoy"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: of load before and after, of two settings, and that a new guard must be ready."""

    around: float
    lame_duck: float
    connection_age: float
    min_ready: float


AS_DEPLOYED = Pace(around=20, lame_duck=10, connection_age=30, min_ready=45)
"""But for the first, as in deploy/kubernetes."""
BRIEF = Pace(around=3, lame_duck=5, connection_age=2, min_ready=8)


async def measure(
    model: Path, way: Way, event: str, pace: Pace, per_second: float
) -> list[dict[str, Any]]:
    """One row per phase: before the event, until it is over and all guards are ready, and after."""
    async with running_fleet(_command(model, pace)) as fleet, _client(way, fleet) as client:
        load = SteadyLoad(client, await _questions(client), per_second)
        async with load.running():
            await asyncio.sleep(pace.around)
            began = time.monotonic()
            if event == KILL:
                await fleet.kill_one()
            else:
                await fleet.replace_all(spare=event == SPARE, pause_seconds=pace.min_ready)
            ended = time.monotonic()
            await asyncio.sleep(pace.around)
    phases: dict[str, list[Reply]] = {"before": [], "during": [], "after": []}
    for reply in load.replies:
        name = "before" if reply.began < began else "during" if reply.began < ended else "after"
        phases[name].append(reply)
    return [
        {"event": event, "through": way.value, "phase": phase, **_counted(replies)}
        for phase, replies in phases.items()
    ]


def _command(model: Path, pace: Pace) -> Command:
    def command(address: str, port: int) -> Sequence[str]:
        return (
            *(sys.executable, "-m", "guard_service", "serve", f"--host={address}"),
            *(f"--port={port}", "--metrics-port=none", f"--model={model}", "--num-threads=1"),
            f"--lame-duck-seconds={pace.lame_duck}",
            f"--max-connection-age-seconds={pace.connection_age}",
        )

    return command


@asynccontextmanager
async def _client(way: Way, fleet: Fleet) -> AsyncIterator[GuardClient]:
    async with contextlib.AsyncExitStack() as stack:
        target = fleet.target
        if way is Way.ENVOY:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            config = balancing_name(NAME, fleet.port, name_server_port=fleet.names.port)
            envoy = await stack.enter_async_context(running_envoy(_envoy(), config, scratch))
            await envoy.until("cluster.guards.membership_healthy", len(fleet.replicas))
            target = envoy.url.removeprefix("http://")
        yield await stack.enter_async_context(GuardClient(target))


async def _questions(client: GuardClient) -> list[Question]:
    """Conversations the model is sure about, safe and unsafe by turns."""
    found: dict[bool, list[Question]] = {True: [], False: []}
    for conversation in random_conversations(1, 10 * NUM_QUESTIONS):
        verdict = await client.moderate(conversation)
        if abs(verdict.unsafe_probability - 0.5) > CLEAR:
            found[verdict.unsafe].append(Question(conversation, verdict.unsafe))
        if min(map(len, found.values())) >= NUM_QUESTIONS / 2:
            break
    return [each for pair in zip(found[True], found[False], strict=False) for each in pair]


def _counted(replies: Sequence[Reply]) -> dict[str, Any]:
    answered = sorted(reply.seconds for reply in replies if not reply.error)
    errors = Counter(reply.error for reply in replies if reply.error)
    return {
        "asked": len(replies),
        "by stream": sum(reply.streamed for reply in replies),
        "errors": errors.total(),
        "of streams": sum(reply.streamed for reply in replies if reply.error),
        "p50 ms": 1000 * answered[len(answered) // 2],
        "p99 ms": 1000 * answered[int(0.99 * len(answered))],
        "wrong verdicts": sum(reply.is_wrong for reply in replies),
        "unsafe passed": sum(reply.is_unsafe_passed for reply in replies),
        "messages": dict(errors),
    }


def _envoy() -> str:
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    if (path := shutil.which("envoy", path=places)) is None:
        raise typer.BadParameter("envoy is not installed: it is part of the extra `dev`")
    return path


def main(
    *,
    through: Annotated[Way | None, typer.Option(help="Only this way.")] = None,
    per_second: Annotated[float, typer.Option(help="Callers a second.")] = 15.0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Replace both guards, with a spare one and without, and kill one; 1 if an aim was missed."""
    pace = BRIEF if quick else AS_DEPLOYED
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        model = save_grammatical_llama(Path(scratch), 1, SMALL)
        for way, event in track(list(product([through] if through else Way, EVENTS)), "events"):
            rows += asyncio.run(measure(model, way, event, pace, per_second))
    shown = [{name: row[name] for name in row if name != "messages"} for row in rows]
    show(f"{per_second:g} callers a second", shown)
    write(
        "rolling_restart",
        {"per_second": per_second, "pace": asdict(pace), "rows": rows},
        quick=quick,
        output=output,
    )
    raise typer.Exit(0 if _aims_are_met(rows) else 1)


def _aims_are_met(rows: Sequence[dict[str, Any]]) -> bool:
    """Nothing is lost by a rolling restart, one in a hundred by a kill, and no verdict is wrong."""
    for _, each in groupby(rows, key=itemgetter("through", "event")):
        phases = list(each)
        lost, asked = (sum(row[name] for row in phases) for name in ("errors", "asked"))
        allowed = asked / 100 if phases[0]["event"] == KILL else 0
        if lost > allowed or any(row["wrong verdicts"] for row in phases):
            return False
    return True


if __name__ == "__main__":
    typer.run(main)
