"""What `benchmarks.gpu` measures, a cell at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from statistics import mean, median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_subject import THRESHOLD, Scaffold, Subject
from guard_service.engine.answer import Tokens
from guard_service.engine.packing import PackedOutput, PackedSequence, forward
from guard_service.moderation import ModerationError

MAX_NEW_TOKENS = 6
"""What `generate` may write when timed: `unsafe`, a line break, one code, its end, one over."""

ENGINE, GENERATE = "this engine", "generate"
SESSION, NO_SESSION = "session", "no session"

Row = dict[str, Any]
Bodies = Sequence[Tokens]
Judge = Callable[[Bodies], object]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine does at best: operations and bytes a second, read and written."""

    flops: float
    bandwidth: float

    def floor_seconds(self, subject: Subject, num_tokens: int) -> float:
        """Of one forward over so many tokens: reading all weights, or the layers' products."""
        products = 2 * subject.layer_parameters * num_tokens
        return max(subject.weight_bytes / self.bandwidth, products / self.flops)


def synchronize() -> None:
    """Wait for the device; a CPU is always done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _seconds(call: Callable[[], object]) -> float:
    """Wall time of a call, until the device is done with it."""
    synchronize()
    began = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - began


def measure_limits(device: torch.device, *, size: int, num_bytes: int) -> Limits:
    """A square bf16 product of this size and a copy of so many bytes, medians of ten."""
    left, right = torch.randn(2, size, size, dtype=torch.bfloat16, device=device)
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = _median_seconds(lambda: left @ right, 10)
    copy = _median_seconds(lambda: target.copy_(source), 10)
    return Limits(2 * size**3 / product, 2 * num_bytes / copy)


def latency(
    subject: Subject,
    scaffold: Scaffold,
    limits: Limits,
    *,
    batch: int,
    repeats: int,
    generate: bool,
) -> list[Row]:
    """Groups of so many conversations, judged by each variant in turn.

    Times are means, over the groups, of a group's median, and of its first time; for one text also
    by what is said of it.
    """
    bodies, num_groups = subject.prompts.bodies, max(2, 12 // batch)
    groups = [bodies[i * batch : (i + 1) * batch] for i in range(num_groups)]
    judges: dict[str, Judge] = {ENGINE: lambda group: subject.score(scaffold, group)}
    if generate:
        judges[GENERATE] = lambda group: subject.generate(scaffold, group, MAX_NEW_TOKENS)
    firsts, times = _interleave(judges, groups, repeats)
    unsafe = [_num_unsafe(subject, scaffold, group) for group in groups]
    around = len(scaffold.suffix) + len(subject.prompts.grammar.opening)
    floor = mean(
        limits.floor_seconds(subject, sum(len(body) + around for body in group)) for group in groups
    )
    one = batch == 1
    return [
        {
            "variant": name,
            "dtype": str(subject.model.dtype).removeprefix("torch."),
            "prefix": len(scaffold.prefix),
            "batch": batch,
            "unsafe": sum(unsafe) / (batch * num_groups),
            "first ms": 1000 * mean(firsts[name]),
            "ms": 1000 * mean(seconds),
            "ms if safe": _mean_ms(seconds, [not each for each in unsafe]) if one else None,
            "ms if unsafe": _mean_ms(seconds, [bool(each) for each in unsafe]) if one else None,
            "verdicts/s": batch / mean(seconds),
            "x generate": mean(times[GENERATE]) / mean(seconds) if generate else None,
            "share of limit": floor / mean(seconds) if name == ENGINE else None,
        }
        for name, seconds in times.items()
    ]


def streamed(subject: Subject, limits: Limits, *, repeats: int) -> list[Row]:
    """A check of an answer that has grown since the last: with a session, without, and generated.

    The first body of the stream is what the session knows already; every later one is a check.
    """
    prompts, scaffold = subject.prompts, subject.prompts.stream_scaffold
    times: dict[str, list[float]] = {SESSION: [], NO_SESSION: [], GENERATE: []}
    for _ in range(repeats):
        session = subject.engine.open_session()
        known = replace(prompts.judgement(scaffold, prompts.stream[0]), session=session)
        subject.engine.score([known])
        for body in prompts.stream[1:]:
            judgement = prompts.judgement(scaffold, body)
            growing = replace(judgement, session=session)
            for name, asked in ((SESSION, growing), (NO_SESSION, judgement)):
                times[name].append(_seconds(partial(subject.engine.score, [asked])))
            times[GENERATE].append(
                _seconds(partial(subject.generate, scaffold, [body], MAX_NEW_TOKENS))
            )
        session.close()
    grown = mean(len(after) - len(before) for before, after in pairwise(prompts.stream))
    num_new = round(grown) + len(scaffold.suffix) + len(prompts.grammar.opening)
    floor = limits.floor_seconds(subject, num_new)
    return [
        {
            "variant": name,
            "checks": len(seconds),
            "ms": 1000 * median(seconds),
            "x generate": median(times[GENERATE]) / median(seconds),
            "share of limit": floor / median(seconds) if name == SESSION else None,
        }
        for name, seconds in times.items()
    ]


def where_time_goes(
    subject: Subject, scaffold: Scaffold, *, batch: int, repeats: int
) -> tuple[Row, list[Row]]:
    """One packed forward of safe texts: how long the CPU needs to ask for it, and the GPU to do it.

    Where asking takes as long as the whole, the GPU waits for the CPU. The second result is what
    the GPU did, by kernel.
    """
    bodies = subject.prompts.bodies
    safe = (body for body in bodies if not _num_unsafe(subject, scaffold, [body]))
    group = list(islice(safe, batch))
    whole = _median_seconds(lambda: subject.score(scaffold, group), repeats)
    [prefix] = _forward(subject, [PackedSequence(scaffold.prefix)])
    answer = subject.prompts.grammar.opening
    packed = [PackedSequence((*body, *scaffold.suffix, *answer), (prefix.run,)) for body in group]
    asked, done = [], []
    for _ in range(repeats):
        synchronize()
        began = time.perf_counter()
        _forward(subject, packed)
        asked.append(time.perf_counter() - began)
        synchronize()
        done.append(time.perf_counter() - began)
    kernels = _kernels(lambda: subject.score(scaffold, group))
    copies = [row for row in kernels if str(row["kernel"]).startswith("Mem")]
    busy = sum(row["ms"] for row in kernels)
    row = {
        "batch": len(group),
        "verdict ms": 1000 * whole,
        "forward ms": 1000 * median(done),
        "asking ms": 1000 * median(asked),
        "GPU busy ms": busy,
        "GPU busy": busy / (1000 * whole),
        "kernels": sum(row["calls"] for row in kernels) - sum(row["calls"] for row in copies),
        "copies": sum(row["calls"] for row in copies),
    }
    return row, kernels


def _kernels(call: Callable[[], object]) -> list[Row]:
    """What the GPU ran for a call, by name; the most time first."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        call()
        synchronize()
    microseconds: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.device_type.name == "CUDA":
            microseconds.setdefault(event.name, []).append(event.time_range.elapsed_us())
    rows = [
        {"kernel": name, "calls": len(each), "ms": sum(each) / 1000}
        for name, each in microseconds.items()
    ]
    return sorted(rows, key=lambda row: -float(row["ms"]))


@torch.inference_mode()
def _forward(subject: Subject, sequences: Sequence[PackedSequence]) -> list[PackedOutput]:
    return forward(subject.model, sequences)


def _interleave(
    judges: Mapping[str, Judge], groups: Sequence[Bodies], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each group by variant: at its first time, and the median of the later ones."""
    firsts: dict[str, list[float]] = {name: [] for name in judges}
    times: dict[str, list[float]] = {name: [] for name in judges}
    for group in groups:
        seconds: dict[str, list[float]] = {name: [] for name in judges}
        for _ in range(repeats + 1):
            for name, judge in judges.items():
                seconds[name].append(_seconds(partial(judge, group)))
        for name, each in seconds.items():
            firsts[name].append(each[0])
            times[name].append(median(each[1:]))
    return firsts, times


def _num_unsafe(subject: Subject, scaffold: Scaffold, bodies: Bodies) -> int:
    """How many of these the model says are unsafe."""
    results = subject.score(scaffold, bodies)
    return sum(
        not isinstance(result, ModerationError) and result.unsafe_probability >= THRESHOLD
        for result in results
    )


def _mean_ms(seconds: Sequence[float], wanted: Sequence[bool]) -> float | None:
    chosen = [each for each, is_wanted in zip(seconds, wanted, strict=True) if is_wanted]
    return 1000 * mean(chosen) if chosen else None


def _median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Of so many calls after two that do not count."""
    return median([_seconds(call) for _ in range(repeats + 2)][2:])
