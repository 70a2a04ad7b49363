"""Draws the main panels of the Grafana dashboard, as they look after a few eventful minutes.

Guard, gateway and Prometheus are real, and the queries are the dashboard's own; the drawing is by
matplotlib, not by Grafana. The guard's weights are random, so that a CPU can judge several texts a
second: its verdicts and categories mean nothing.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
import yaml

from benchmarks.dashboard_chart import draw
from benchmarks.dashboard_load import Span, drive, sort_prompts, write_word_by_word
from benchmarks.dashboard_series import RATE_SECONDS, FilledRow, fill, times
from tests.deploy.monitored import Watched, watched_services
from tests.deploy.processes import ROOT, service
from tests.models import Shape, save_grammatical_llama

CHART = ROOT / "docs" / "images" / "dashboard-preview.png"
OWN_POLICY = ROOT / "guard_service" / "policies" / "llama-guard-2.yaml"
SHAPE = Shape(hidden=384, layers=8, heads=6, kv_heads=2, head_dim=64, mlp=1024)
UNSAFE_FROM = 0.95
"""Of random weights, half of all verdicts would be unsafe from 0.5 on."""

MAX_QUEUE_TOKENS = 2500

Measured = tuple[tuple[float, ...], list[Span], tuple[FilledRow, ...]]


def measure() -> Measured:
    """The times, what happened when, and what the panels say of it."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        folder = Path(scratch)
        flags = _guard_flags(folder)
        watched = running.enter_context(
            watched_services(_program, folder, write_word_by_word, flags)
        )

        def stop() -> None:
            watched.guard.process.send_signal(signal.SIGTERM)
            watched.guard.process.wait()

        def start() -> None:
            again = (*flags, *_ports(watched))
            running.enter_context(service("guard_service", *again)).logged("ready")

        prompts = asyncio.run(sort_prompts(watched.guard_target))
        spans = asyncio.run(drive(str(watched.chat.base_url), prompts, stop, start))
        when = times(spans[0].begin + RATE_SECONDS, max(span.end for span in spans))
        return when, spans, fill(watched.prometheus, when)


def _guard_flags(folder: Path) -> Sequence[str]:
    model = save_grammatical_llama(folder / "model", 1, SHAPE)
    policy = yaml.safe_load(OWN_POLICY.read_text(encoding="utf-8"))
    policy |= {"id": "preview", "threshold": UNSAFE_FROM}
    file = folder / "preview.yaml"
    file.write_text(yaml.safe_dump(policy), encoding="utf-8")
    return (
        f"--model={model}",
        f"--policies={file}",
        "--default-policy=preview",
        f"--max-queue-tokens={MAX_QUEUE_TOKENS}",
    )


def _ports(watched: Watched) -> Sequence[str]:
    """The flags by which another guard takes the place of the first."""
    port = urlsplit(f"//{watched.guard_target}").port
    metrics_port = urlsplit(watched.metrics_urls[0]).port
    return f"--port={port}", f"--metrics-port={metrics_port}"


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed")
    return path


def main(chart: Annotated[Path, typer.Argument()] = CHART) -> None:
    """Run for about five minutes, then draw."""
    when, spans, rows = measure()
    note = (
        "Drawn by matplotlib, not by Grafana, from a real Prometheus that watched a gateway and a "
        f"guard of random weights on {datetime.now(UTC).date()}. Rates are over {RATE_SECONDS} s."
    )
    draw(rows, when, spans, note, chart)


if __name__ == "__main__":
    typer.run(main)
