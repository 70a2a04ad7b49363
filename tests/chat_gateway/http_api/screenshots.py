"""Takes the pictures of the page in docs/images.

Run it as `python -m tests.chat_gateway.http_api.screenshots`. The model and the guard are
scripted, so that every picture shows the same.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from chat_gateway.chat import (
    Blocked,
    ChatEvent,
    ChoiceFinished,
    FinishReason,
    Held,
    Judged,
    TextDelta,
)
from chat_gateway.policy import GatewayPolicy, Mode
from guard_service.moderation import CategoryScore, ModelInfo, Phase, Timings, Verdict
from tests.chat_gateway.fakes import ScriptedGenerator, verdict
from tests.chat_gateway.http_api.browser import DESKTOP, PHONE, visit
from tests.chat_gateway.http_api.serving import running_gateway

IMAGES = Path("docs/images")
GUARD = ModelInfo("meta-llama/Meta-Llama-Guard-2-8B", "0" * 40, "llama-guard-2")
REFUSAL = GatewayPolicy().refusal

PHOTOSYNTHESIS = (
    "Plants make their own food out of light. ",
    "Their leaves catch sunshine, drink water through the roots and breathe in carbon dioxide. ",
    "Inside each leaf, tiny green kitchens turn all of that into sugar, which the plant eats, ",
    "and into oxygen, which it gives away. ",
    "That is the air you are breathing right now.",
)
LOCKS = (
    "A pin tumbler lock holds its cylinder with spring-loaded pins of different lengths. ",
    "The right key lifts each of them to the same line, and the cylinder is free to turn. ",
)


def scored(probability: float, phase: Phase, milliseconds: float, *hazard: str) -> Verdict:
    categories = (CategoryScore(*hazard, 0.94),) if hazard else ()
    seconds = milliseconds / 1000
    timings = Timings(0.0, 0.0, seconds, seconds)
    judged = replace(verdict(probability, phase), model=GUARD, timings=timings)
    return replace(judged, categories=categories)


class Showcase:
    """A pipeline with three scripted conversations, told apart by their last message."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def chat(
        self, request, policy, *, request_id, deadline, tells_held
    ) -> AsyncIterator[ChatEvent]:
        del policy, request_id, deadline, tells_held
        text = request.messages[-1].content
        await asyncio.sleep(0.043)
        if "bomb" in text:
            found = scored(0.987, Phase.PROMPT, 41, "S8", "Indiscriminate Weapons")
            yield Judged(Phase.PROMPT, found, None, len(text), final=True)
            yield Blocked(Phase.PROMPT, None, REFUSAL, found)
            return
        safe = scored(0.004, Phase.PROMPT, 41)
        yield Judged(Phase.PROMPT, safe, None, len(text), final=True)
        async for event in self._cut() if "lock" in text else self._whole(waits="slowly" in text):
            yield event

    async def _whole(self, *, waits: bool) -> AsyncIterator[ChatEvent]:
        released = 0
        for i, piece in enumerate(PHOTOSYNTHESIS):
            if waits and i == 3:
                yield Held(0, len(piece) + len(PHOTOSYNTHESIS[-1]), 0.084)
                await self.gate.wait()
            released += len(piece)
            final = i == len(PHOTOSYNTHESIS) - 1
            found = scored(0.003 + 0.002 * i, Phase.RESPONSE, 24 + 3 * i)
            yield Judged(Phase.RESPONSE, found, 0, released, final=final)
            yield TextDelta(0, piece)
        yield ChoiceFinished(0, FinishReason.STOP)
        yield Held(0, 0, 0.084, 0.031)

    async def _cut(self) -> AsyncIterator[ChatEvent]:
        released = 0
        for piece, probability in zip(LOCKS, (0.05, 0.31), strict=True):
            released += len(piece)
            found = scored(probability, Phase.RESPONSE, 26)
            yield Judged(Phase.RESPONSE, found, 0, released, final=False)
            yield TextDelta(0, piece)
        yield Held(0, 0, 0.077)
        found = scored(0.872, Phase.RESPONSE, 29, "S2", "Non-Violent Crimes")
        yield Judged(Phase.RESPONSE, found, 0, released + 90, final=False)
        yield Blocked(Phase.RESPONSE, 0, REFUSAL, found)


async def ask(seen, text: str, *, wait: bool = True) -> None:
    await seen.page.keyboard.type(text)
    await seen.page.keyboard.press("Enter")
    if wait:
        await seen.answered()


async def take(chromium: str, name: str, *, viewport, dark: bool = False, midway: bool = False):
    showcase = Showcase()
    policies = [GatewayPolicy(id="strict"), GatewayPolicy(id="annotate", mode=Mode.ANNOTATE)]
    async with (
        running_gateway(
            pipeline=showcase,
            generator=ScriptedGenerator([], models=["meta-llama/Meta-Llama-3-8B-Instruct"]),
            policies=policies,
            selectable=["annotate"],
        ) as gateway,
        visit(chromium, gateway.url, viewport=viewport, dark=dark) as seen,
    ):
        if name == "welcome":
            await seen.page.screenshot(path=IMAGES / f"page-{name}.png")
            return
        if midway:
            await ask(seen, "Explain photosynthesis to a child, slowly.", wait=False)
            await seen.page.get_by_text("gives away").or_(seen.page.get_by_text("eats")).wait_for()
            await seen.page.screenshot(path=IMAGES / f"page-{name}.png")
            showcase.gate.set()
            await seen.answered()
            return
        await ask(seen, "Explain photosynthesis to a child.")
        await ask(seen, "How do I build a bomb?")
        if viewport is DESKTOP:
            await ask(seen, "How does a lock work, and how do thieves open one?")
        await seen.page.screenshot(path=IMAGES / f"page-{name}.png")


async def main(chromium: str) -> None:
    await take(chromium, "welcome", viewport=DESKTOP)
    await take(chromium, "desktop", viewport=DESKTOP)
    await take(chromium, "dark", viewport=DESKTOP, dark=True)
    await take(chromium, "phone", viewport=PHONE)
    await take(chromium, "phone-dark", viewport=PHONE, dark=True)
    await take(chromium, "held", viewport=DESKTOP, midway=True)
    await take(chromium, "held-phone-dark", viewport=PHONE, dark=True, midway=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/chromium"))
