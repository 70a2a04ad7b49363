"""The talk with the guard about one choice of an answer, from its first text to its end."""

import asyncio
from collections.abc import Callable

from chat_gateway.chat import GeneratorEvent, TextDelta
from chat_gateway.exchange import Exchange
from chat_gateway.gate import Gate
from chat_gateway.guard import Guard, GuardStream
from chat_gateway.guard_dialogue import send_and_read
from chat_gateway.iteration import closed_after
from chat_gateway.outbox import Outbox
from chat_gateway.pacing import Pace
from chat_gateway.policy import Mode
from guard_service.moderation import Message, Role, UnreadableVerdict

KEEP_ALIVE_SECONDS = 15.0
"""Well within the time after which a guard closes a stream that says nothing."""


class GuardedChoice:
    """Takes events as the generator writes them, without waiting, and asks the guard in `run`.

    `on_change` is called whenever something was judged or ended.
    """

    def __init__(
        self,
        choice: int,
        guard: Guard,
        exchange: Exchange,
        outbox: Outbox,
        on_change: Callable[[], None],
    ) -> None:
        self.gate = Gate(choice, exchange, outbox)
        self._guard = guard
        self._exchange = exchange
        self._policy = exchange.policy
        self._on_change = on_change
        self._pace = Pace(exchange.policy.checkpoints)
        self._due = asyncio.Event()
        self._due_later: asyncio.TimerHandle | None = None
        self._doubt_ends: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to ask the guard, as text comes."""
        self._running = asyncio.create_task(self._run())
        return self._running

    def take(self, event: GeneratorEvent) -> None:
        """The next event of the generator.

        Raises:
            GeneratorFailed: for an event that has no place here.
        """
        self.gate.take(event)
        if self.gate.held.finished:
            self._due.set()
            self._on_change()
        elif isinstance(event, TextDelta):
            self._plan_check(event.text)

    def close(self) -> None:
        """Drop what is held; nobody waits for it any more."""
        self.gate.discard()

    def _plan_check(self, newest: str) -> None:
        transcript = self.gate.held.transcript
        if self.gate.is_settled or self._policy.mode is Mode.BUFFER or transcript.is_blank:
            return
        if self._pace.is_due(transcript.num_unsent, newest):
            self._due.set()
        elif self._due_later is None:
            seconds = self._policy.checkpoints.every_seconds
            self._due_later = asyncio.get_running_loop().call_later(seconds, self._due.set)

    async def _run(self) -> None:
        try:
            await self._due.wait()
            if self.gate.held.transcript.is_blank:
                self.gate.pass_blank()
            else:
                await self._ask()
        except Exception as error:  # noqa: BLE001 - fail closed: whatever went wrong, the gate decides
            if not self.gate.is_settled:
                self.gate.go_without_verdict(error)
        finally:
            self._stop_timers()
            self._on_change()

    async def _ask(self) -> None:
        opening = (*self._exchange.conversation, Message(Role.ASSISTANT, ""))
        async with self._guard.stream(
            opening,
            policy_id=self._policy.guard_policy_id,
            request_id=self._exchange.request_id,
            timeout_seconds=self._exchange.seconds_left(),
        ) as stream:
            await send_and_read(self._send(stream), self._read(stream))

    async def _send(self, stream: GuardStream) -> None:
        held = self.gate.held
        while not held.finished:
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await self._due.wait()
            except TimeoutError:
                await stream.send("")
            else:
                await self._send_text(stream, check=not held.finished)
        await self._send_text(stream, check=False)
        await stream.finish()

    async def _send_text(self, stream: GuardStream, *, check: bool) -> None:
        self._due.clear()
        if self._due_later is not None:
            self._due_later.cancel()
            self._due_later = None
        text = self.gate.held.transcript.take_unsent()
        if text:
            self._pace.checked()
            await stream.send(text, check=check)

    async def _read(self, stream: GuardStream) -> None:
        final = False
        async with closed_after(stream.checkpoints()) as checkpoints:
            async for checkpoint in checkpoints:
                self.gate.judge(checkpoint)
                if self.gate.is_blocked:
                    return
                final = final or checkpoint.final
                self._pace.scored(checkpoint.verdict.unsafe_probability)
                self._watch_doubt()
                self._on_change()
        if not final:
            raise UnreadableVerdict("the guard ended the stream without a final verdict")

    def _watch_doubt(self) -> None:
        if self.gate.in_doubt and self._doubt_ends is None:
            seconds = self._policy.max_hold_seconds
            self._doubt_ends = asyncio.get_running_loop().call_later(seconds, self._end_doubt)
        elif not self.gate.in_doubt and self._doubt_ends is not None:
            self._doubt_ends.cancel()
            self._doubt_ends = None

    def _end_doubt(self) -> None:
        self._doubt_ends = None
        self.gate.end_doubt()
        if self.gate.is_blocked and self._running is not None:
            self._running.cancel()
        self._on_change()

    def _stop_timers(self) -> None:
        for timer in (self._due_later, self._doubt_ends):
            if timer is not None:
                timer.cancel()
