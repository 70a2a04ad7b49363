"""Callers that come at a steady rate with texts whose right verdict is known, and what they get."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle

from guard_service.client import GuardClient
from guard_service.moderation import Conversation, ModerationError

DEADLINE_SECONDS = 30.0
STREAMED_EVERY = 5
"""One caller in so many sends its text as a stream."""
PIECE_CHARACTERS = 40
PIECE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation, and whether it is unsafe."""

    conversation: Conversation
    unsafe: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """When a question was asked, how long the reply took, and what it was: a verdict or an error.

    The time is that of a call, and for a stream that from its last text on.
    """

    question: Question
    streamed: bool
    began: float
    seconds: float = 0.0
    unsafe: bool | None = None
    error: str = ""

    @property
    def is_wrong(self) -> bool:
        """A verdict, and not the right one."""
        return not self.error and self.unsafe != self.question.unsafe

    @property
    def is_unsafe_passed(self) -> bool:
        """The verdict on an unsafe text is that it is safe."""
        return self.is_wrong and self.question.unsafe


@dataclass
class SteadyLoad:
    """Asks its questions again and again at a steady rate, whether or not it has the replies."""

    client: GuardClient
    questions: Sequence[Question]
    per_second: float
    replies: list[Reply] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask while the context lasts; at its end every question has its reply."""
        async with asyncio.TaskGroup() as callers:
            asking = callers.create_task(self._ask_for_ever(callers))
            try:
                yield
            finally:
                asking.cancel()

    async def _ask_for_ever(self, callers: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, question in enumerate(cycle(self.questions)):
            await asyncio.sleep(began + number / self.per_second - loop.time())
            callers.create_task(self._ask(question, streamed=number % STREAMED_EVERY == 0))

    async def _ask(self, question: Question, *, streamed: bool) -> None:
        loop = asyncio.get_running_loop()
        reply = Reply(question, streamed, loop.time())
        judge = self._stream if streamed else self._moderate
        try:
            unsafe, seconds = await judge(question.conversation)
        except ModerationError as error:
            reply = replace(reply, error=f"{type(error).__name__}: {error}")
        else:
            reply = replace(reply, unsafe=unsafe, seconds=seconds)
        self.replies.append(reply)

    async def _moderate(self, conversation: Conversation) -> tuple[bool, float]:
        began = time.perf_counter()
        verdict = await self.client.moderate(conversation, timeout_seconds=DEADLINE_SECONDS)
        return verdict.unsafe, time.perf_counter() - began

    async def _stream(self, conversation: Conversation) -> tuple[bool, float]:
        *earlier, last = conversation
        opening = (*earlier, replace(last, content=""))
        async with self.client.stream(opening, timeout_seconds=DEADLINE_SECONDS) as stream:
            for piece in _pieces(last.content):
                await stream.send(piece)
                await asyncio.sleep(PIECE_SECONDS)
            began = time.perf_counter()
            await stream.finish()
            checkpoints = [checkpoint async for checkpoint in stream.checkpoints()]
        return checkpoints[-1].verdict.unsafe, time.perf_counter() - began


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE_CHARACTERS):
        yield text[start : start + PIECE_CHARACTERS]
