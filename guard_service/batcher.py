"""One queue in front of one engine: whatever queued while it was busy is the next batch.

The queue lives on the event loop and the engine on a thread of its own, so nothing here needs a
lock. Work is refused at the door when the queue is full, and work whose caller has gone or whose
deadline has passed never reaches the engine.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from guard_service.engine.protocol import Engine, Judgement, Scores
from guard_service.moderation import (
    DeadlineExceeded,
    JudgementFailed,
    ModerationError,
    NotReady,
    Overloaded,
)
from guard_service.observer import Drop, Observer


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one judgement, and the seconds it spent waiting and in the engine."""

    scores: Scores
    queue_seconds: float
    inference_seconds: float


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the queue. What is to be judged may still be replaced while it waits."""

    judgement: Judgement
    deadline: float
    queued_at: float
    result: asyncio.Future[Scored]
    started: bool = False


class Batcher:
    """Feeds the engine from a queue bounded in items and tokens.

    A batch holds up to `max_batch_tokens` new tokens; a longer item runs alone. Tokens of the
    shared prefix do not count.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_tokens: int,
        max_queue_items: int,
        max_queue_tokens: int,
        observer: Observer,
    ) -> None:
        self._engine = engine
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_items = max_queue_items
        self._max_queue_tokens = max_queue_tokens
        self._observer = observer
        self._queue: deque[Ticket] = deque()
        self._num_queued_tokens = 0
        self._work_arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = False
        self._draining = False
        self._tokens_per_second = 1000.0
        self._progress_at = time.monotonic()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @property
    def num_queued_items(self) -> int:
        """Judgements waiting."""
        return len(self._queue)

    @property
    def num_queued_tokens(self) -> int:
        """New tokens waiting."""
        return self._num_queued_tokens

    @property
    def oldest_age_seconds(self) -> float:
        """How long the first in the queue has waited; 0 when nobody waits. From any thread."""
        first = next(iter(tuple(self._queue)), None)
        return time.monotonic() - first.queued_at if first else 0.0

    @property
    def seconds_since_progress(self) -> float:
        """How long there has been work without a batch being finished; 0 when idle."""
        return time.monotonic() - self._progress_at if self._busy or self._queue else 0.0

    async def submit(self, judgement: Judgement, *, deadline: float) -> Scored:
        """Scores of one judgement; `deadline` is on the clock of `time.monotonic`.

        Raises:
            ModerationError: any of the tree but InvalidRequest.
        """
        return await self.wait(self.enqueue(judgement, deadline=deadline))

    def enqueue(self, judgement: Judgement, *, deadline: float) -> Ticket:
        """Take a place in the queue; `wait` for its result, or cancel it.

        Raises:
            Overloaded: if the queue is full.
            NotReady: if the service is draining.
        """
        if self._draining:
            raise NotReady("the service is draining")
        if not self._queue and not self._busy:
            self._progress_at = time.monotonic()
        self._require_room(judgement.num_new_tokens)
        future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        ticket = Ticket(judgement, deadline, time.monotonic(), future)
        self._queue.append(ticket)
        self._num_queued_tokens += judgement.num_new_tokens
        self._work_arrived.set()
        self._idle.clear()
        return ticket

    def replace(self, ticket: Ticket, judgement: Judgement) -> bool:
        """Judge this instead, in the same place; False if the ticket's batch has begun."""
        if ticket.started or ticket.result.done():
            return False
        self._num_queued_tokens += judgement.num_new_tokens - ticket.judgement.num_new_tokens
        ticket.judgement = judgement
        return True

    async def wait(self, ticket: Ticket) -> Scored:
        """The ticket's result. If the caller goes or the deadline passes, the place is given up."""
        try:
            async with asyncio.timeout_at(_on_loop_clock(ticket.deadline)):
                return await ticket.result
        except TimeoutError:
            self._give_up(ticket, Drop.EXPIRED)
            raise DeadlineExceeded("the deadline passed before a verdict was reached") from None
        except asyncio.CancelledError:
            self._give_up(ticket, Drop.CANCELLED)
            raise

    async def run(self) -> None:
        """Feed the engine until cancelled."""
        try:
            while True:
                await self._work_arrived.wait()
                if batch := self._next_batch():
                    self._busy = True
                    await self._score(batch)
                    self._busy = False
                if not self._queue:
                    self._work_arrived.clear()
                    self._idle.set()
        finally:
            self._busy = False
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def drain(self) -> None:
        """Refuse new work and return when everything accepted has been answered."""
        self._draining = True
        await self._idle.wait()

    def _require_room(self, num_tokens: int) -> None:
        too_many_items = len(self._queue) >= self._max_queue_items
        # An empty queue takes anything: an item above the bound must not be refused for ever.
        too_many_tokens = self._queue and (
            self._num_queued_tokens + num_tokens > self._max_queue_tokens
        )
        if too_many_items or too_many_tokens:
            self._observer.dropped(Drop.SHED)
            raise Overloaded(
                f"the queue is full (max_queue_items {self._max_queue_items}, "
                f"max_queue_tokens {self._max_queue_tokens})",
                retry_after_seconds=max(1.0, self._num_queued_tokens / self._tokens_per_second),
            )

    def _give_up(self, ticket: Ticket, reason: Drop) -> None:
        self._observer.dropped(reason)
        ticket.result.cancel()
        if not ticket.started and ticket in self._queue:
            self._queue.remove(ticket)
            self._num_queued_tokens -= ticket.judgement.num_new_tokens

    def _next_batch(self) -> list[Ticket]:
        """From the front of the queue, as many as fit; those past their deadline are left out."""
        batch: list[Ticket] = []
        num_tokens = 0
        while self._queue:
            ticket = self._queue[0]
            if batch and num_tokens + ticket.judgement.num_new_tokens > self._max_batch_tokens:
                break
            self._queue.popleft()
            self._num_queued_tokens -= ticket.judgement.num_new_tokens
            if _is_wanted(ticket):
                ticket.started = True
                num_tokens += ticket.judgement.num_new_tokens
                batch.append(ticket)
        return batch

    async def _score(self, batch: Sequence[Ticket]) -> None:
        try:
            await self._score_together(batch)
        except Exception:  # noqa: BLE001 - whatever the engine raised, nobody may wait for ever
            # Somebody's item broke the batch: alone, it fails alone.
            for ticket in filter(_is_wanted, batch):
                try:
                    await self._score_together([ticket])
                except Exception as error:  # noqa: BLE001 - likewise
                    self._fail(ticket, error)

    async def _score_together(self, batch: Sequence[Ticket]) -> None:
        judgements = [ticket.judgement for ticket in batch]
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._thread, self._engine.score, judgements)
        seconds = time.monotonic() - began
        if len(results) != len(batch):
            raise JudgementFailed("the engine lost count of its batch")
        num_tokens = sum(judgement.num_new_tokens for judgement in judgements)
        self._observer.batch_scored(num_items=len(batch), num_tokens=num_tokens, seconds=seconds)
        self._tokens_per_second += 0.2 * (num_tokens / max(seconds, 1e-6) - self._tokens_per_second)
        self._progress_at = time.monotonic()
        for ticket, result in zip(batch, results, strict=True):
            if isinstance(result, ModerationError):
                self._fail(ticket, result)
            elif not ticket.result.done():
                ticket.result.set_result(Scored(result, began - ticket.queued_at, seconds))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """Answer with an error: the engine's own words only if they are made for callers."""
        if not ticket.result.done():
            self._observer.dropped(Drop.FAILED)
            told = error if isinstance(error, ModerationError) else None
            ticket.result.set_exception(told or JudgementFailed("the engine failed on this text"))


def _is_wanted(ticket: Ticket) -> bool:
    """Whether somebody still waits and has time left; who has none wakes up and counts it."""
    return not ticket.result.done() and time.monotonic() < ticket.deadline


def _on_loop_clock(deadline: float) -> float:
    """A `time.monotonic` deadline on the event loop's clock, which may be another one."""
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
