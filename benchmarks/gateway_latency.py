"""How long a user waits for the first text and for the whole answer, with and without the guard.

The embedded models: the generator in this process, the guard in one of its own on the same cores.
All variants answer the same prompts with the same text (greedy), in rotating order. HTTP is left
out; `gateway_overhead` says what it adds.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.progress import track

from benchmarks.guard_process import GuardProcess
from benchmarks.report import Output, Quick, Threads, show, use_threads, write
from chat_gateway.chat import (
    Blocked,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    Judged,
    Sampling,
    TextDelta,
)
from chat_gateway.composition import load_generator
from chat_gateway.generators.protocol import Generator
from chat_gateway.iteration import closed_after
from chat_gateway.observer import NullObserver
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import GatewayPolicy, Mode
from chat_gateway.settings import load
from guard_service.client import GuardClient
from guard_service.moderation import Role

PROMPTS = (
    "What is the capital of France, and what is it known for?",
    "Explain in a few sentences how rain forms.",
    "Give me three tips for a good night's sleep.",
    "Write a short note to thank a colleague for her help.",
    "Why do leaves change their colour in autumn?",
    "How do I boil an egg so that the yolk stays soft?",
)
UNGUARDED = "without guard"
POLICIES = (
    GatewayPolicy(id="strict"),
    GatewayPolicy(id="strict, prompt in parallel", parallel_prompt_check=True),
    GatewayPolicy(id="buffer", mode=Mode.BUFFER),
)
PATIENCE_SECONDS = 300.0

Asking = Callable[[ChatRequest, float], AsyncIterator[ChatEvent]]


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds until the first text and until the end; how often the guard judged; what came out."""

    first: float
    whole: float
    num_checks: int
    text: str
    blocked: bool


async def waited(asking: Asking, request: ChatRequest) -> Wait:
    """Ask once."""
    began = time.monotonic()
    first, text, num_checks, blocked = 0.0, "", 0, False
    async with closed_after(asking(request, began + PATIENCE_SECONDS)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                first = first or time.monotonic() - began
                text += event.text
            num_checks += isinstance(event, Judged)
            blocked = blocked or isinstance(event, Blocked)
    return Wait(first, time.monotonic() - began, num_checks, text, blocked)


def variants(generator: Generator, pipeline: ChatPipeline) -> Mapping[str, Asking]:
    """The generator alone, and the pipeline under each policy."""

    def alone(request: ChatRequest, deadline: float) -> AsyncIterator[ChatEvent]:
        return generator.generate(request, deadline=deadline)

    def under(policy: GatewayPolicy) -> Asking:
        return lambda request, deadline: pipeline.chat(
            request, policy, request_id="benchmark", deadline=deadline
        )

    return {UNGUARDED: alone} | {policy.id: under(policy) for policy in POLICIES}


async def all_waits(
    generator: Generator, target: str, prompts: Sequence[str], max_tokens: int
) -> dict[str, list[Wait]]:
    """Every prompt in every variant."""
    async with GuardClient(target) as guard:
        asked = variants(generator, ChatPipeline(guard, generator, NullObserver()))
        waits: dict[str, list[Wait]] = {name: [] for name in asked}
        await waited(asked["strict"], _request(generator, "Hello", 8))
        for number, prompt in enumerate(track(prompts, "prompts")):
            request = _request(generator, prompt, max_tokens)
            names = list(asked)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                waits[name].append(await waited(asked[name], request))
        await generator.close()
        return waits


def _request(generator: Generator, prompt: str, max_tokens: int) -> ChatRequest:
    return ChatRequest(
        messages=(ChatMessage(Role.USER, prompt),),
        model=generator.models[0],
        sampling=Sampling(temperature=0.0, max_tokens=max_tokens),
    )


def rows(waits: Mapping[str, Sequence[Wait]]) -> list[dict[str, Any]]:
    """Medians over the prompts that no variant blocked, beside those of the generator alone."""
    passed = [not any(group) for group in _blocked(waits)]
    kept = {
        name: [wait for wait, fine in zip(each, passed, strict=True) if fine]
        for name, each in waits.items()
    }
    bare = kept[UNGUARDED]
    return [
        {
            "variant": name,
            "prompts": len(each),
            "first text, s": statistics.median(wait.first for wait in each),
            "later by s": statistics.median(
                w.first - b.first for w, b in zip(each, bare, strict=True)
            ),
            "whole answer, s": statistics.median(wait.whole for wait in each),
            "longer by s": statistics.median(
                w.whole - b.whole for w, b in zip(each, bare, strict=True)
            ),
            "checks": statistics.mean(wait.num_checks for wait in each),
            "same text": sum(w.text == b.text for w, b in zip(each, bare, strict=True)),
        }
        for name, each in kept.items()
    ]


def _blocked(waits: Mapping[str, Sequence[Wait]]) -> list[tuple[bool, ...]]:
    return list(zip(*([wait.blocked for wait in each] for each in waits.values()), strict=True))


def main(
    *, max_tokens: int = 64, threads: Threads = 0, quick: Quick = False, output: Output = None
) -> None:
    """Measure all variants on all prompts."""
    prompts = PROMPTS[:1] if quick else PROMPTS
    generator = load_generator(load())
    use_threads(threads)
    with GuardProcess() as guard:
        waits = asyncio.run(all_waits(generator, guard.target, prompts, max_tokens))
    table = rows(waits)
    num_blocked = sum(map(any, _blocked(waits)))
    show(f"Medians; {num_blocked} of {len(prompts)} prompts left out as blocked", table)
    results = {
        "max_tokens": max_tokens,
        "prompts": len(prompts),
        "blocked": num_blocked,
        "rows": table,
        "seconds": {
            name: [{"first": wait.first, "whole": wait.whole} for wait in each]
            for name, each in waits.items()
        },
    }
    write("gateway_latency", results, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
