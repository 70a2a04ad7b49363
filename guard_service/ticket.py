"""A place in the engine's queue, and what comes of it."""

import asyncio
import time
from dataclasses import dataclass

from guard_service.engine.protocol import Judgement, Scores


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one judgement, the seconds it spent waiting and in the engine, and its batch."""

    scores: Scores
    queue_seconds: float
    inference_seconds: float
    num_batch_items: int
    num_batch_tokens: int


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the queue. What is to be judged may still be replaced while it waits."""

    judgement: Judgement
    deadline: float
    queued_at: float
    result: asyncio.Future[Scored]
    started: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits and has time left; who has none wakes up and counts it."""
        return not self.result.done() and time.monotonic() < self.deadline

    @property
    def deadline_on_loop(self) -> float:
        """The deadline, which is on `time.monotonic`, on the clock of the running event loop."""
        return asyncio.get_running_loop().time() + self.deadline - time.monotonic()
