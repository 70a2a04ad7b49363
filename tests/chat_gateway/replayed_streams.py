"""Thousands of answers on a virtual clock, judged by a real engine that reads each text once.

How an answer is cut and how long a check takes differs in each of them; the texts that are judged
recur, so their verdicts are the engine's own, remembered.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from chat_gateway.chat import ChatRequest, GeneratorEvent
from chat_gateway.generators.protocol import Generator
from guard_service.engine.protocol import Engine
from guard_service.moderation import Conversation, Verdict
from tests.chat_gateway.answers_by_chance import Scenario
from tests.chat_gateway.byte_upstream import TRAVEL_SECONDS, Settle
from tests.chat_gateway.engine_guard import RememberingGuard
from tests.chat_gateway.fakes import Crash, ScriptedGenerator, Stall, Step
from tests.chat_gateway.judged_streams import Tally, prove
from tests.chat_gateway.recorded_guard import RecordedGuard
from tests.serving import until

CHECK_SECONDS = (0.0, 0.05, 3.0)


class WaitingGenerator(ScriptedGenerator):
    """Yields steps, and waits where they say so until everything was judged."""

    def __init__(self, steps: Sequence[Step | Settle], is_settled: Callable[[], bool]) -> None:
        super().__init__(())
        self._steps = steps
        self._is_settled = is_settled

    async def generate(
        self,
        request: ChatRequest,  # noqa: ARG002
        *,
        deadline: float,  # noqa: ARG002
    ) -> AsyncIterator[GeneratorEvent]:
        for step in self._steps:
            await asyncio.sleep(0)
            if isinstance(step, Stall):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Settle):
                await asyncio.sleep(TRAVEL_SECONDS)
                await until(self._is_settled)
            elif isinstance(step, Crash):
                raise step.error
            else:
                yield step


@asynccontextmanager
async def without_server(guard: RecordedGuard, scenario: Scenario) -> AsyncIterator[Generator]:
    yield WaitingGenerator(scenario.steps, lambda: guard.is_settled)


async def prove_replayed(
    engine: Engine, wanted: Iterable[Scenario], known: dict[Conversation, Verdict]
) -> Tally:
    """Play answers one by one; verdicts that are not `known` yet are the engine's.

    Raises:
        AssertionError: a promise was broken.
    """
    tally = Tally()
    for i, scenario in enumerate(wanted):
        check_seconds = CHECK_SECONDS[i % len(CHECK_SECONDS)]
        guard = RememberingGuard(engine=engine, known=known, check_seconds=check_seconds)
        await prove(guard, scenario, tally, without_server)
    return tally
