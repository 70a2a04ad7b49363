"""What every benchmark does with its numbers: print them as a table and keep them as JSON."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
GIB = 2**30
MIB = 2**20
WIDTH = 140

Quick = Annotated[bool, typer.Option(help="A small sample, to see that everything runs.")]
Threads = Annotated[
    int, typer.Option(help="CPU threads of torch, for every variant; 0 is the cores less one.")
]
Output = Annotated[
    Path | None, typer.Option(help="JSON file; by default in benchmarks/results, by name.")
]


def use_threads(wanted: int) -> None:
    """Give torch this many threads, or all cores but one: the event loop needs one too."""
    torch.set_num_threads(wanted or max(1, len(os.sched_getaffinity(0)) - 1))


def machine() -> dict[str, Any]:
    """The kind of machine, and what ran on it."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
        "torch_threads": torch.get_num_threads(),
        "transformers": version("transformers"),
        "grpcio": version("grpcio"),
    }


def write(name: str, results: Mapping[str, Any], *, quick: bool, output: Path | None) -> Path:
    """Keep results as JSON, with the date, the command and the machine they are from."""
    path = output or RESULTS / f"{name}{'.quick' if quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "benchmark": name,
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "machine": machine(),
        **results,
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    Console().print(f"written to {path}")
    return path


def show(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows, which all have the same columns."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="left" if column == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(width=WIDTH).print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
