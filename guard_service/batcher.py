"""One queue in front of one engine: whatever queued while it was busy is the next batch.

The queue lives on the event loop and the engine on a thread of its own, so nothing here needs a
lock. Work is refused at the door when the queue is full or longer than the caller can wait, and
work whose caller has gone or whose deadline has passed never reaches the engine.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from guard_service.engine.protocol import Engine, EngineLost, Judgement
from guard_service.moderation import (
    DeadlineExceeded,
    JudgementFailed,
    ModerationError,
    NotReady,
    OutOfMemory,
    Overloaded,
)
from guard_service.observer import Drop, Observer
from guard_service.ticket import Scored, Ticket

_LOST = "the model's device has failed; this server ends"

_MARGIN = 1.2
"""How much longer than estimated the way to a verdict may be, when asked whether there is time."""


class Batcher:
    """Feeds the engine from a queue bounded in items and tokens.

    A batch holds up to `max_batch_tokens` new tokens, less for good once the device's memory ran
    out; a longer item runs alone. Tokens of the shared prefix do not count.
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
        self.max_batch_tokens = max_batch_tokens
        self.max_queue_items = max_queue_items
        self.max_queue_tokens = max_queue_tokens
        self._observer = observer
        self._queue: deque[Ticket] = deque()
        self._num_queued_tokens = 0
        self._num_running_tokens = 0
        self._work_arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = False
        self._draining = False
        self._lost = False
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
    def is_lost(self) -> bool:
        """Whether the engine has failed for good."""
        return self._lost

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
            Overloaded: if the queue is full, or its end would be reached after the deadline.
            NotReady: if the service is draining, or its engine has failed for good.
        """
        if self._lost:
            raise NotReady(_LOST)
        if self._draining:
            raise NotReady("the service is draining")
        if not self._queue and not self._busy:
            self._progress_at = time.monotonic()
        else:
            self._require_room(judgement.num_new_tokens)
            self._require_time(judgement.num_new_tokens, deadline)
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
            async with asyncio.timeout_at(ticket.deadline_on_loop):
                scored = await ticket.result
        except TimeoutError:
            self._give_up(ticket, Drop.EXPIRED)
            raise DeadlineExceeded("the deadline passed before a verdict was reached") from None
        except asyncio.CancelledError:
            self._give_up(ticket, Drop.CANCELLED)
            raise
        self._observer.scored(scored)
        return scored

    async def run(self) -> None:
        """Feed the engine until cancelled.

        Raises:
            EngineLost: if it has failed for good; everything accepted has got an error by then.
        """
        try:
            while True:
                await self._work_arrived.wait()
                if batch := self._next_batch():
                    self._busy = True
                    self._num_running_tokens = _num_tokens(batch)
                    await self._score_or_lose(batch)
                    self._busy = False
                    self._num_running_tokens = 0
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
        too_many_items = len(self._queue) >= self.max_queue_items
        # An empty queue takes anything: an item above the bound must not be refused for ever.
        too_many_tokens = self._queue and (
            self._num_queued_tokens + num_tokens > self.max_queue_tokens
        )
        if too_many_items or too_many_tokens:
            raise self._shed(
                f"the queue is full (max_queue_items {self.max_queue_items}, "
                f"max_queue_tokens {self.max_queue_tokens})"
            )

    def _require_time(self, num_tokens: int, deadline: float) -> None:
        """Refuse what would expire in the queue: under overload the engine serves only the rest.

        The speed is an estimate, so an idle engine is never asked about: it takes anything, and
        its batches correct the estimate.
        """
        num_ahead = self._num_queued_tokens + self._num_running_tokens
        needed = _MARGIN * (num_ahead + num_tokens) / self._tokens_per_second
        if needed > deadline - time.monotonic():
            raise self._shed(f"a verdict would take about {needed:.1f} s, past the deadline")

    def _shed(self, message: str) -> Overloaded:
        self._observer.dropped(Drop.SHED)
        wait = self._num_queued_tokens / self._tokens_per_second
        return Overloaded(message, retry_after_seconds=max(1.0, wait))

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
        first_deadline = math.inf
        while self._queue:
            ticket = self._queue[0]
            if ticket.is_wanted:
                first_deadline = min(first_deadline, ticket.deadline)
                if batch and not self._may_join(ticket, num_tokens, first_deadline):
                    break
                ticket.started = True
                num_tokens += ticket.judgement.num_new_tokens
                batch.append(ticket)
            self._queue.popleft()
            self._num_queued_tokens -= ticket.judgement.num_new_tokens
        return batch

    def _may_join(self, ticket: Ticket, num_tokens: int, first_deadline: float) -> bool:
        """Whether a batch of so many tokens has room for it, and nobody would be late by it."""
        num_tokens += ticket.judgement.num_new_tokens
        finished_at = time.monotonic() + num_tokens / self._tokens_per_second
        return num_tokens <= self.max_batch_tokens and finished_at < first_deadline

    async def _score_or_lose(self, batch: Sequence[Ticket]) -> None:
        try:
            await self._score(batch)
        except EngineLost:
            self._lost = True
            # One of the batch may have caused it, so none is sent to another server; the queue is.
            for ticket in batch:
                self._fail(ticket, JudgementFailed("the model's device failed on this batch"))
            while self._queue:
                self._fail(self._queue.popleft(), NotReady(_LOST))
            self._num_queued_tokens = 0
            raise

    async def _score(self, batch: Sequence[Ticket]) -> None:
        """Score a batch; one that fails is taken apart, so that each fails for itself alone."""
        try:
            await self._score_together(batch)
        except EngineLost:
            raise
        except OutOfMemory as error:
            self._observer.memory_ran_out()
            failure: Exception = error
            size = math.ceil(len(batch) / 2)
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
            failure, size = error, 1
        else:
            return
        if len(batch) == 1:
            self._fail(batch[0], failure)
            return
        if isinstance(failure, OutOfMemory):
            self.max_batch_tokens = min(self.max_batch_tokens, _num_tokens(batch) // 2)
        for start in range(0, len(batch), size):
            if part := [ticket for ticket in batch[start : start + size] if ticket.is_wanted]:
                await self._score(part)

    async def _score_together(self, batch: Sequence[Ticket]) -> None:
        judgements = [ticket.judgement for ticket in batch]
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._thread, self._engine.score, judgements)
        seconds = time.monotonic() - began
        if len(results) != len(batch):
            raise JudgementFailed("the engine lost count of its batch")
        num_tokens = _num_tokens(batch)
        self._observer.batch_scored(num_items=len(batch), num_tokens=num_tokens, seconds=seconds)
        self._tokens_per_second += 0.2 * (num_tokens / max(seconds, 1e-6) - self._tokens_per_second)
        self._progress_at = time.monotonic()
        for ticket, result in zip(batch, results, strict=True):
            if isinstance(result, ModerationError):
                self._fail(ticket, result)
            elif not ticket.result.done():
                waited = began - ticket.queued_at
                ticket.result.set_result(Scored(result, waited, seconds, len(batch), num_tokens))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """Answer with an error: the engine's own words only if they are made for callers."""
        if not ticket.result.done():
            self._observer.dropped(Drop.FAILED)
            told = error if isinstance(error, ModerationError) else None
            ticket.result.set_exception(told or JudgementFailed("the engine failed on this text"))


def _num_tokens(batch: Sequence[Ticket]) -> int:
    return sum(ticket.judgement.num_new_tokens for ticket in batch)
