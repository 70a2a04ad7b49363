"""A few minutes in the life of an installation: quiet, busy, abused, overloaded, without a guard.

Chats come at a fixed rate, whether or not earlier ones were answered.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from guard_service.client import GuardClient
from guard_service.moderation import Message, Role
from tests.chat_gateway.upstreams import Asked, Reply, chunk
from tests.conversations import ANSWERS, QUESTIONS, everyday_text
from tests.deploy.monitored import OPEN, STRICT

WORDS_PER_SECOND = 25.0
STREAMED_SHARE, OPEN_SHARE = 0.7, 0.2
WANTED, AT_ONCE = 6, 16


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is asked, by what the guard says to it."""

    safe: tuple[str, ...]
    unsafe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some time of the same load."""

    name: str
    seconds: float
    chats_per_second: float
    unsafe_share: float = 0.1


STRETCHES = (
    Stretch("quiet", 50, 0.5),
    Stretch("busy", 50, 1.3),
    Stretch("unsafe prompts", 40, 1.3, unsafe_share=0.7),
    Stretch("overload", 15, 13.0),
    Stretch("busy", 150, 1.3),
)
OUTAGE_AFTER_SECONDS, OUTAGE_SECONDS = 195.0, 20.0


@dataclass(frozen=True, slots=True)
class Span:
    """When something was so, in seconds of Unix time."""

    name: str
    begin: float
    end: float


async def sort_prompts(guard: str) -> Prompts:
    """Everyday prompts, until this guard has found enough of both kinds."""
    rng = random.Random(1)
    found: dict[bool, list[str]] = {False: [], True: []}
    async with GuardClient(guard) as client:
        while min(map(len, found.values())) < WANTED:
            texts = [everyday_text(rng, QUESTIONS) for _ in range(AT_ONCE)]
            verdicts = await asyncio.gather(
                *(client.moderate((Message(Role.USER, text),)) for text in texts)
            )
            for text, verdict in zip(texts, verdicts, strict=True):
                found[verdict.unsafe].append(text)
    return Prompts(tuple(found[False]), tuple(found[True]))


async def write_word_by_word(_: Asked, reply: Reply) -> None:
    """A model server that thinks for a moment and then writes a few sentences."""
    answer = " ".join(everyday_text(random.Random(), ANSWERS) for _ in range(2))
    await asyncio.sleep(random.lognormvariate(-1.5, 0.4))
    await reply.start()
    for word in answer.split(" "):
        await reply.event(chunk(f"{word} "))
        await asyncio.sleep(1 / WORDS_PER_SECOND)
    await reply.event(chunk("", finish="stop"))
    await reply.event("[DONE]")
    await reply.end()


async def drive(
    gateway: str,
    prompts: Prompts,
    stop_guard: Callable[[], object],
    start_guard: Callable[[], object],
) -> list[Span]:
    """Chat through all stretches, stop the guard on the way and start it again."""
    spans = []
    async with (
        httpx.AsyncClient(base_url=gateway, timeout=120) as client,
        asyncio.TaskGroup() as tasks,
    ):
        outage = tasks.create_task(_outage(stop_guard, start_guard))
        rng = random.Random(1)
        for stretch in STRETCHES:
            began, clock = time.time(), time.monotonic()
            while time.monotonic() < clock + stretch.seconds:
                tasks.create_task(_chat(client, stretch, prompts, rng))
                await asyncio.sleep(rng.uniform(0.5, 1.5) / stretch.chats_per_second)
            spans.append(Span(stretch.name, began, time.time()))
    return [*spans, outage.result()]


async def _outage(stop_guard: Callable[[], object], start_guard: Callable[[], object]) -> Span:
    await asyncio.sleep(OUTAGE_AFTER_SECONDS)
    began = time.time()
    await asyncio.to_thread(stop_guard)
    await asyncio.sleep(OUTAGE_SECONDS)
    await asyncio.to_thread(start_guard)
    return Span("guard stopped", began, time.time())


async def _chat(
    client: httpx.AsyncClient, stretch: Stretch, prompts: Prompts, rng: random.Random
) -> None:
    content = rng.choice(prompts.unsafe if rng.random() < stretch.unsafe_share else prompts.safe)
    body = {
        "model": "stub",
        "stream": rng.random() < STREAMED_SHARE,
        "messages": [{"role": "user", "content": content}],
    }
    policy = OPEN if rng.random() < OPEN_SHARE else STRICT
    await client.post("/v1/chat/completions", json=body, headers={"x-guard-policy": policy})
