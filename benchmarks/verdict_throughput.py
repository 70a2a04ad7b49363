"""Verdicts by this engine against plain transformers: same weights, same requests, interleaved.

Every variant judges each request (or group of requests) right after the others, in rotating order,
in fp32 and with the same number of threads. The baselines stop at the end of the answer and after
six tokens at the latest (`unsafe`, a line break, one code, the end), so they never do more than
they must; the engine reads the whole list of categories.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

import torch
import typer
from rich.progress import track
from transformers import pipeline

from benchmarks.guard_models import PlainModel, embedded_engine, embedded_plain
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from benchmarks.workload import DESCRIBED, NAMES, Request, conversations
from guard_service.engine.transformers_engine import TransformersEngine

MAX_NEW_TOKENS = 6
MAX_BATCH_TOKENS = 1024
GEMM_SIZE = 2048
BASELINE = "generate per request"

Judge = Callable[[Sequence[Request]], None]


@dataclass(slots=True)
class Timing:
    """Seconds per request of one variant, one entry per group of requests."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """The same weights twice: in this engine and in plain transformers."""

    engine: TransformersEngine
    plain: PlainModel

    @classmethod
    def load(cls) -> Self:
        """Both in fp32, prompts padded on the left."""
        plain = embedded_plain()
        plain.tokenizer.padding_side = "left"
        return cls(embedded_engine(), plain)

    def variants(self, concurrency: int) -> dict[str, Judge]:
        """What is compared at this many requests at a time; this engine comes first."""
        variants = {
            "this engine": engine_judge(self.engine),
            BASELINE: generate_judge(self.plain, padded=False),
            "pipeline": pipeline_judge(self.plain),
        }
        if concurrency > 1:
            variants["generate, left-padded"] = generate_judge(self.plain, padded=True)
        return variants


def engine_judge(engine: TransformersEngine) -> Judge:
    """This engine, in batches of as many requests as its token budget takes."""

    def judge(requests: Sequence[Request]) -> None:
        waiting = [request.judgement(engine) for request in requests]
        while waiting:
            size, num_tokens = 1, waiting[0].num_new_tokens
            while size < len(waiting):
                num_tokens += waiting[size].num_new_tokens
                if num_tokens > MAX_BATCH_TOKENS:
                    break
                size += 1
            engine.score(waiting[:size])
            del waiting[:size]

    return judge


def generate_judge(
    plain: PlainModel, *, padded: bool, max_new_tokens: int = MAX_NEW_TOKENS
) -> Judge:
    """`generate`, one prompt at a time or all at once behind padding on the left."""

    @torch.inference_mode()
    def judge(requests: Sequence[Request]) -> None:
        prompts = [request.prompt(plain.prompt_format) for request in requests]
        for group in [prompts] if padded else [[prompt] for prompt in prompts]:
            inputs = plain.tokenizer(group, return_tensors="pt", padding=padded)
            plain.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=plain.tokenizer.pad_token_id,
            )

    return judge


def pipeline_judge(plain: PlainModel) -> Judge:
    """`pipeline("text-generation")`, with the group as its batch."""
    generator: Any = pipeline("text-generation", model=plain.model, tokenizer=plain.tokenizer)

    def judge(requests: Sequence[Request]) -> None:
        generator(
            [request.prompt(plain.prompt_format) for request in requests],
            batch_size=len(requests),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            return_full_text=False,
        )

    return judge


def interleave(
    variants: dict[str, Judge], groups: Sequence[Sequence[Request]]
) -> dict[str, Timing]:
    """Time every variant on every group, in rotating order."""
    timings = {name: Timing() for name in variants}
    names = list(variants)
    for number, group in enumerate(track(groups, f"groups of {len(groups[0])}")):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            wall, processor = time.perf_counter(), time.process_time()
            variants[name](group)
            timings[name].wall.append((time.perf_counter() - wall) / len(group))
            timings[name].processor.append((time.process_time() - processor) / len(group))
    return timings


def gemm_rate() -> float:
    """Floating-point operations per second of a large fp32 matrix product, at its best."""
    left, right = torch.randn(GEMM_SIZE, GEMM_SIZE), torch.randn(GEMM_SIZE, GEMM_SIZE)
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return 2 * GEMM_SIZE**3 / min(seconds)


def measure(
    groups: Sequence[Sequence[Request]], variants: dict[str, Judge]
) -> list[dict[str, Any]]:
    """One row per variant; ratios are medians, over groups, of the baseline by the variant."""
    concurrency = len(groups[0])
    for judge in variants.values():
        judge(groups[0][:1])  # prefix cache and allocator warm, as in service
    timings = interleave(variants, groups)
    base = timings[BASELINE]
    return [
        {
            "variant": name,
            "policy": groups[0][0].policy.id,
            "concurrency": concurrency,
            "requests": len(groups) * concurrency,
            "ms per request": 1000 * median(timing.wall),
            "x generate": _median_ratio(base.wall, timing.wall),
            "x generate, CPU time": _median_ratio(base.processor, timing.processor),
            "seconds": concurrency * sum(timing.wall),
        }
        for name, timing in timings.items()
    ]


def _median_ratio(base: Sequence[float], other: Sequence[float]) -> float:
    return median(one / two for one, two in zip(base, other, strict=True))


def matrix_share(
    row: dict[str, Any], groups: Sequence[Sequence[Request]], bench: Bench, rate: float
) -> dict[str, Any]:
    """How much of the machine's matrix rate the engine reaches, by the body's products alone."""
    num_tokens = sum(r.judgement(bench.engine).num_new_tokens for group in groups for r in group)
    reached = num_tokens * bench.plain.body_flops_per_token / row["seconds"]
    return {
        "policy": row["policy"],
        "concurrency": row["concurrency"],
        "new tokens": num_tokens,
        "GFLOP/s": reached / 1e9,
        "share": reached / rate,
    }


def main(
    *,
    requests: int = 32,
    seed: int = 1,
    threads: Threads = 0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Measure concurrency 1, 8 and 32 under the default policy and the described categories."""
    use_threads(threads)
    requests, levels = (2, (1, 2)) if quick else (requests, (1, 8, 32))
    bench = Bench.load()
    texts = conversations(bench.engine, requests, seed)
    rate = gemm_rate()
    rows: list[dict[str, Any]] = []
    shares: list[dict[str, Any]] = []
    for policy in (NAMES, DESCRIBED):
        asked = [Request(text, policy) for text in texts]
        for level in levels:
            groups = [asked[i : i + level] for i in range(0, len(asked) - level + 1, level)]
            rows += (measured := measure(groups, bench.variants(level)))
            shares.append(matrix_share(measured[0], groups, bench, rate))
    show("Verdicts, fp32, embedded guard (135M parameters)", rows)
    show(f"Share of the measured matrix rate, {rate / 1e9:.0f} GFLOP/s", shares)
    results = {"rows": rows, "matrix_gflops": rate / 1e9, "shares": shares}
    write("verdict_throughput", results, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
