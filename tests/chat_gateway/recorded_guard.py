"""A real guard at the gateway's own seam, with a record of what it judged and how."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chat_gateway.guard import Guard, GuardStream
from guard_service.moderation import Conversation, Message, Verdict
from guard_service.service_info import ServiceInfo
from guard_service.stream import Checkpoint


@dataclass(slots=True)
class Record:
    """One stream: all the text it was sent, and every checkpoint that came back."""

    opening: Conversation
    text: str = ""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    num_asked: int = 0
    over: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether every check that was asked for has its verdict."""
        num_judged = max((each.num_characters for each in self.checkpoints), default=0)
        return self.over or num_judged >= self.num_asked

    @property
    def safe_text(self) -> str:
        """The longest prefix judged safe; nothing counts that came after an unsafe verdict."""
        num_characters = 0
        for checkpoint in self.checkpoints:
            if checkpoint.verdict.unsafe:
                break
            num_characters = max(num_characters, checkpoint.num_characters)
        return self.text[:num_characters]

    def conversation(self, num_characters: int) -> Conversation:
        """The first so many characters, in the context they were judged in."""
        *history, growing = self.opening
        return (*history, Message(growing.role, self.text[:num_characters]))


class RecordedStream:
    """Passes everything on, and notes it before the gateway can act on it."""

    def __init__(self, stream: GuardStream, record: Record) -> None:
        self._stream = stream
        self._record = record

    async def send(self, text: str, *, check: bool = False) -> None:
        self._record.text += text
        if check:
            self._record.num_asked = len(self._record.text)
        await self._stream.send(text, check=check)

    async def finish(self) -> None:
        await self._stream.finish()

    async def checkpoints(self) -> AsyncIterator[Checkpoint]:
        async for checkpoint in self._stream.checkpoints():
            self._record.checkpoints.append(checkpoint)
            yield checkpoint


class RecordedGuard:
    """The client of a guard, for one answer.

    `known` holds whole conversations that were judged before, so that each is judged once only.
    """

    def __init__(self, client: Guard, known: dict[Conversation, Verdict]) -> None:
        self._client = client
        self._known = known
        self.records: list[Record] = []

    @property
    def is_settled(self) -> bool:
        """Whether nothing is at the guard."""
        return all(record.is_settled for record in self.records)

    async def moderate(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float = 30.0,
    ) -> Verdict:
        if conversation not in self._known:
            self._known[conversation] = await self._client.moderate(
                conversation,
                policy_id=policy_id,
                request_id=request_id,
                timeout_seconds=timeout_seconds,
            )
        return self._known[conversation]

    @asynccontextmanager
    async def stream(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[RecordedStream]:
        record = Record(conversation)
        self.records.append(record)
        try:
            async with self._client.stream(
                conversation,
                policy_id=policy_id,
                request_id=request_id,
                timeout_seconds=timeout_seconds,
            ) as stream:
                yield RecordedStream(stream, record)
        finally:
            record.over = True

    async def info(self, *, timeout_seconds: float = 30.0) -> ServiceInfo:
        return await self._client.info(timeout_seconds=timeout_seconds)
