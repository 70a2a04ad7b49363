"""The engine on a GPU: random weights of the true 8B shape, made on the device.

Measures the machine's limits, equality with plain transformers, the latency of a verdict, what a
streamed check costs, and where the time of a verdict goes. The first argument is the file that
`benchmarks.gpu_prompts` writes. Results are written after every cell, and no cell starts once the
budget is spent, so that a lent machine gives all it can in the time there is.
"""

import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.gpu_cells import Limits, Row, latency, measure_limits, streamed, where_time_goes
from benchmarks.gpu_equality import equality
from benchmarks.gpu_subject import Prompts, Subject
from benchmarks.gpu_weights import SHAPES, Shape, speaking_llama
from benchmarks.report import GIB, MIB, Output, show, write

BATCHES = (1, 2, 4, 8, 16, 32)
AGAINST_GENERATE = (1, 8)
EXACT_LAYERS = 4
"""Depth of the fp32 model: as exact at four layers as at all, and small enough."""


@dataclass(slots=True)
class Report:
    """What is known so far, kept in a file; cells are only begun before the budget ends."""

    output: Path | None
    seconds: float
    facts: Mapping[str, Any]
    began: float = field(default_factory=time.monotonic)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    cells: list[Row] = field(default_factory=list)

    def cell(self, table: str, name: str, measure: Callable[[], list[Row]]) -> None:
        """Measure one cell, unless it is too late; one that fails leaves the others alone."""
        elapsed = time.monotonic() - self.began
        if elapsed > self.seconds:
            self.cells.append({"cell": name, "skipped at": elapsed})
            return
        try:
            self.tables.setdefault(table, []).extend(measure())
            outcome: Row = {}
        except Exception as error:  # noqa: BLE001 - whatever it is, the next cells may work
            traceback.print_exc()
            outcome = {"error": f"{type(error).__name__}: {error}"}
        spent = time.monotonic() - self.began - elapsed
        self.cells.append({"cell": name, "began at": elapsed, "seconds": spent, **outcome})
        print(f"{elapsed:6.1f} s  {name}: {spent:.1f} s {outcome or ''}", flush=True)
        self.save()

    def save(self) -> None:
        """Write everything that is known."""
        results = {**self.facts, "tables": self.tables, "cells": self.cells}
        write("gpu", results, quick=False, output=self.output)

    def show(self) -> None:
        """Print every table; of the kernels only those that take longest."""
        for name, rows in self.tables.items():
            if rows:
                show(name, rows[:12] if name == "kernels" else rows)


def card() -> dict[str, Any]:
    """The GPU and its driver, or that there is none."""
    if not torch.cuda.is_available():
        return {"card": "none"}
    facts = torch.cuda.get_device_properties(0)
    driver = None
    if program := shutil.which("nvidia-smi"):
        query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
        asked = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603
        driver = asked.stdout.strip()
    return {
        "card": facts.name,
        "memory_gib": round(facts.total_memory / GIB, 1),
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def limits_row(subject: Subject, limits: Limits) -> Row:
    """The limits, and what one forward can cost at best."""
    return {
        "bf16 TFLOP/s": limits.flops / 1e12,
        "copy GB/s": limits.bandwidth / 1e9,
        "weights GB": subject.weight_bytes / 1e9,
        "floor of a forward, ms": 1000 * limits.floor_seconds(subject, 1),
        "tokens where products take over": subject.weight_bytes
        / limits.bandwidth
        * limits.flops
        / (2 * subject.layer_parameters),
    }


def built(
    shape: Shape, prompts: Prompts, device: str, *, dtype: torch.dtype, layers: int | None = None
) -> Subject:
    """Random weights of this shape, or of one with fewer layers."""
    if layers is not None:
        shape = replace(shape, layers=min(layers, shape.layers))
    return Subject.around(speaking_llama(shape, prompts, device=device, dtype=dtype), prompts)


def measure_main(report: Report, subject: Subject, limits: Limits, repeats: int) -> None:
    """Every cell of the bf16 model, what matters most first."""
    prompts, time_table = subject.prompts, partial(latency, subject, limits=limits, repeats=repeats)

    def profile(batch: int) -> list[Row]:
        row, kernels = where_time_goes(subject, prompts.names, batch=batch, repeats=repeats)
        report.tables.setdefault("kernels", []).extend({"batch": batch, **each} for each in kernels)
        return [row]

    for name, scaffold, batches in (
        ("names", prompts.names, BATCHES),
        ("described", prompts.described, AGAINST_GENERATE),
    ):
        for batch in batches:
            measure = partial(time_table, scaffold, batch=batch, generate=batch in AGAINST_GENERATE)
            report.cell("latency", f"{name}, {batch} at once", measure)
        if name == "names":
            for batch in (1, 8):
                report.cell("where time goes", f"where time goes, {batch}", partial(profile, batch))
            report.cell("equality", "equality", partial(equality, subject, scaffold, 8))
    report.cell("streaming", "streaming", partial(streamed, subject, limits, repeats=2))


def measure_others(report: Report, build: Callable[..., Subject], limits: Limits) -> None:
    """Other numbers than bf16: fp32 shows that all but rounding is equal, fp16 how fast it is."""

    def exact() -> list[Row]:
        subject = build(dtype=torch.float32, layers=EXACT_LAYERS)
        return equality(subject, subject.prompts.names, 8)

    def half() -> list[Row]:
        subject = build(dtype=torch.float16)
        names = subject.prompts.names
        return [
            row
            for batch in AGAINST_GENERATE
            for row in latency(subject, names, limits, batch=batch, repeats=3, generate=False)
        ]

    report.cell("equality", "equality, fp32", exact)
    report.cell("latency", "fp16", half)


def main(
    file: Path,
    *,
    shape: Annotated[str, typer.Option(help="Size of the model: 8b or tiny.")] = "8b",
    seconds: Annotated[float, typer.Option(help="No cell begins later than this.")] = 80.0,
    repeats: Annotated[int, typer.Option(help="Times that each group is judged.")] = 5,
    output: Output = None,
) -> None:
    """Measure on the prompts in FILE, which `python -m benchmarks.gpu_prompts FILE` writes."""
    small = shape == "tiny"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not small:
        raise typer.BadParameter("there is no GPU here; a CPU can only do --shape tiny")
    report = Report(output, seconds, {"shape": {"name": shape, **asdict(SHAPES[shape])}, **card()})
    build = partial(built, SHAPES[shape], Prompts.load(file), device)
    subject = build(dtype=torch.bfloat16)
    limits = measure_limits(
        subject.device, size=256 if small else 8192, num_bytes=MIB if small else 2 * GIB
    )
    report.cell("limits", "limits, after building", lambda: [limits_row(subject, limits)])
    measure_main(report, subject, limits, repeats)
    measure_others(report, build, limits)
    report.show()
    report.save()


if __name__ == "__main__":
    typer.run(main)
