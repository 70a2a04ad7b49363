"""An answer on its way: generator, guard and client each at their own speed."""

import asyncio
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

from chat_gateway.chat import (
    ChatEvent,
    GatewayError,
    GeneratorEvent,
    GeneratorFailed,
    Held,
    OutOfTime,
    TokenUsage,
)
from chat_gateway.exchange import Exchange
from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.guarded_choice import GuardedChoice
from chat_gateway.iteration import closed_after
from chat_gateway.outbox import Outbox, num_characters_of
from guard_service.moderation import Phase

MAX_WAITING_CHARACTERS = 65_536
"""More than this waits for guard or client, and the generator is not read until less does."""
MAX_HELD_CHARACTERS = 1_048_576
"""The most text of one request that is held at all: for its end, say, or that of a tool call."""


class Answer:
    """Reads the generator, has every choice judged, and gives out what may be released.

    Use as an async context manager: leaving it ends generator and guard.
    """

    def __init__(self, guard: Guard, generator: Generator, exchange: Exchange) -> None:
        self._generator = generator
        self._exchange = exchange
        self._outbox = Outbox(silent=exchange.policy.mode.is_silent)
        self._choices = [
            GuardedChoice(index, guard, exchange, self._outbox, self._changed)
            for index in range(exchange.request.sampling.num_choices)
        ]
        self._moved = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._num_reports = 0
        self._is_generating = True
        self._has_released = False
        self._told = [choice.gate.holding for choice in self._choices]
        self._untold: set[int] = set()
        self._has_ended = False
        self._began: float | None = None
        self._usage: TokenUsage | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for choice in self._choices:
            choice.close()

    def start(self) -> None:
        """Ask the generator; what it writes is judged at once and waits in the outbox."""
        self._reading = asyncio.create_task(self._read_generator())
        self._tasks += [self._reading, *(choice.start() for choice in self._choices)]

    def report(self, events: Awaitable[tuple[ChatEvent, ...]]) -> None:
        """Tell the client these events when they are there, beside the answer."""
        self._num_reports += 1
        self._tasks.append(asyncio.create_task(self._report(events)))

    def open(self) -> None:
        """The prompt may be answered: start now, if that has not been done."""
        if self._reading is None:
            delay = self._exchange.seconds_gone()
            self.start()
        else:
            delay = 0.0 if self._began is None else time.monotonic() - self._began
        self._exchange.observer.guard_delayed(Phase.PROMPT, seconds=delay)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatEvent:
        """What may be released, as soon as it may.

        Raises:
            GatewayError: from the generator, or OutOfTime.
        """
        event = await self._next()
        if event is None:
            raise StopAsyncIteration
        self._moved.set()
        if not self._has_released and num_characters_of(event):
            self._has_released = True
            self._exchange.observer.first_text_released(seconds=self._exchange.seconds_gone())
        return event

    async def _next(self) -> ChatEvent | None:
        try:
            event = await self._outbox.get(self._exchange)
            return self._fresh(event.choice) if isinstance(event, Held) else event
        except OutOfTime:
            if self._exchange.policy.mode.blocks or self._is_generating:
                raise
            return None

    def _tell_held(self) -> None:
        """Put a mark in the outbox, one for each choice; what it says is known when it is read."""
        if not self._exchange.tells_held or not self._exchange.policy.mode.blocks:
            return
        for index, choice in enumerate(self._choices):
            if index not in self._untold and choice.gate.holding != self._told[index]:
                self._untold.add(index)
                self._outbox.tell(choice.gate.holding)

    def _fresh(self, index: int) -> Held:
        self._untold.discard(index)
        self._told[index] = self._choices[index].gate.holding
        return self._told[index]

    async def _report(self, events: Awaitable[tuple[ChatEvent, ...]]) -> None:
        try:
            for event in await events:
                self._outbox.tell(event)
        except GatewayError as error:
            self._outbox.fail(error)
        finally:
            self._num_reports -= 1
            self._changed()

    async def _read_generator(self) -> None:
        asked, ending = time.monotonic(), "cancelled"
        try:
            await self._hold_all()
            ending = ""
        except GatewayError as error:
            ending = type(error).__name__
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an ending
            ending = type(error).__name__
            self._fail(GeneratorFailed("the generator failed unexpectedly"))
        finally:
            seconds = time.monotonic() - asked
            self._exchange.observer.generator_ended(seconds=seconds, error=ending)
            self._is_generating = False
            self._changed()

    async def _hold_all(self) -> None:
        exchange = self._exchange
        answer = self._generator.generate(exchange.request, deadline=exchange.deadline)
        async with closed_after(answer) as events:
            async for event in events:
                if self._began is None:
                    self._began = time.monotonic()
                    exchange.observer.generator_began(seconds=exchange.seconds_gone())
                self._hold(event)
                await self._room()
        if not self._is_written:
            raise GeneratorFailed("the generator ended before its answer did")

    def _fail(self, error: GatewayError) -> None:
        """The generator's error ends the answer, unless the answer was complete before it."""
        if not self._is_written:
            self._outbox.fail(error)

    def _hold(self, event: GeneratorEvent) -> None:
        if isinstance(event, TokenUsage):
            self._usage = event
        elif 0 <= event.choice < len(self._choices):
            self._choices[event.choice].take(event)
            self._tell_held()
        else:
            raise GeneratorFailed("the generator wrote a choice that was not asked for")

    async def _room(self) -> None:
        """Wait while too much text waits, as long as guard or client can make it less."""
        while (num_waiting := self._num_waiting()) > MAX_WAITING_CHARACTERS:
            if num_waiting > MAX_HELD_CHARACTERS:
                raise GeneratorFailed(
                    f"the answer is longer than the {MAX_HELD_CHARACTERS} characters that are held"
                )
            judging = any(choice.gate.is_checking for choice in self._choices)
            if not judging and self._outbox.is_empty:
                return
            self._moved.clear()
            await self._moved.wait()

    def _num_waiting(self) -> int:
        held = sum(choice.gate.held.num_held for choice in self._choices)
        return held + self._outbox.num_characters

    @property
    def _is_written(self) -> bool:
        """Whether the generator has nothing more to say that anyone would hear."""
        gates = (choice.gate for choice in self._choices)
        return all(gate.is_blocked or gate.held.finished for gate in gates)

    def _changed(self) -> None:
        self._moved.set()
        self._tell_held()
        gates = [choice.gate for choice in self._choices]
        if (
            self._is_written
            and any(gate.is_blocked for gate in gates)
            and self._reading is not None
        ):
            self._reading.cancel()
        over = not self._is_generating and self._num_reports == 0
        if over and all(gate.is_settled for gate in gates) and not self._has_ended:
            self._has_ended = True
            if self._usage is not None:
                self._outbox.put(self._usage)
            self._outbox.end()
