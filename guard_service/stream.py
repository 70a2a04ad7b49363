"""A conversation whose last message grows, judged at checkpoints as it does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from guard_service.engine.protocol import Segments, Session
from guard_service.moderation import Conversation, InvalidRequest, Verdict
from guard_service.policy import Policy
from guard_service.ticket import Scored, Ticket
from guard_service.validation import content_bytes, require_size

if TYPE_CHECKING:
    from guard_service.moderator import Moderator, Plan


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verdict on the conversation with the first `num_characters` of its growing message.

    Characters are Unicode code points. The `final` one covers everything that was sent.
    """

    verdict: Verdict
    num_characters: int
    final: bool


class ModerationStream:
    """Judges the newest text whenever a check was asked for; an older check still queued yields.

    Use as an async context manager: leaving it frees the stream's memory and its slot.
    """

    def __init__(
        self,
        moderator: "Moderator",
        conversation: Conversation,
        policy: Policy,
        session: Session,
        on_close: Callable[["ModerationStream"], None],
    ) -> None:
        self._moderator = moderator
        self._history, self._growing = conversation[:-1], conversation[-1]
        self._policy = policy
        self._session = session
        self._on_close = on_close
        self._text = self._growing.content
        self._num_bytes = sum(len(message.content.encode()) for message in conversation)
        self._check_wanted = asyncio.Event()
        self._finished = False
        self._closed_windows: dict[Segments, Scored] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()
        self._on_close(self)

    def append(self, text: str, *, check: bool) -> None:
        """Add text to the growing message; with `check`, ask for a checkpoint that covers it.

        Raises:
            InvalidRequest: for text that cannot be judged, or more of it than allowed.
        """
        self._num_bytes += content_bytes("delta.text", text)
        require_size("delta.text", self._num_bytes, self._moderator.limits)
        self._text += text
        if check and self._text.strip():
            self._check_wanted.set()

    def finish(self) -> None:
        """No more text will come: the final checkpoint follows.

        Raises:
            InvalidRequest: if no text ever came.
        """
        if not self._text.strip():
            raise InvalidRequest("delta.text", "the stream ended without any text to judge")
        self._finished = True
        self._check_wanted.set()

    async def checkpoints(self, *, deadline: float | None) -> AsyncIterator[Checkpoint]:
        """Checkpoints as they are reached, the final one last.

        Raises:
            ModerationError: any of the tree; the stream is then over.
        """
        final = False
        while not final:
            await self._check_wanted.wait()
            checkpoint = await self._judge(self._moderator.latest(deadline))
            final = checkpoint.final
            yield checkpoint

    async def _judge(self, deadline: float) -> Checkpoint:
        """Judge the newest text; what arrives while it is queued is taken along in its place."""
        plan, num_characters, final = await self._plan()
        closed = await self._score_closed_windows(plan, deadline)
        ticket = self._moderator.batcher.enqueue(plan.judgements[-1], deadline=deadline)
        waiting = asyncio.ensure_future(self._moderator.batcher.wait(ticket))
        try:
            while await self._is_overtaken(waiting):
                newer = await self._plan()
                if not self._supersede(ticket, plan, newer[0]):
                    self._check_wanted.set()
                    break
                plan, num_characters, final = newer
            last = await waiting
        finally:
            waiting.cancel()
        verdict = self._moderator.decide(plan, [*closed, last])
        return Checkpoint(verdict, num_characters, final)

    async def _plan(self) -> "tuple[Plan, int, bool]":
        """Tokens of the text so far, how many characters that is, and whether it is all."""
        self._check_wanted.clear()
        text, final = self._text, self._finished
        conversation = (*self._history, replace(self._growing, content=text))
        plan = await self._moderator.plan(conversation, self._policy, self._session)
        return plan, len(text), final

    async def _is_overtaken(self, waiting: "asyncio.Future[Scored]") -> bool:
        """True when a newer check is asked for before the result of this one is there."""
        newer = asyncio.ensure_future(self._check_wanted.wait())
        either: set[asyncio.Future[Any]] = {waiting, newer}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            newer.cancel()
        return not waiting.done()

    def _supersede(self, ticket: Ticket, old: "Plan", new: "Plan") -> bool:
        """Put the newer text in the queued one's place, if it is there and only its end differs."""
        same_closed_windows = old.judgements[:-1] == new.judgements[:-1]
        return same_closed_windows and self._moderator.batcher.replace(ticket, new.judgements[-1])

    async def _score_closed_windows(self, plan: "Plan", deadline: float) -> list[Scored]:
        """Scores of all windows but the last, which no longer change: each is computed once."""
        closed = plan.judgements[:-1]
        unknown = [each for each in closed if each.segments not in self._closed_windows]
        scored = await self._moderator.score(unknown, deadline)
        for judgement, scores in zip(unknown, scored, strict=True):
            self._closed_windows[judgement.segments] = scores
        return [self._closed_windows[each.segments] for each in closed]
