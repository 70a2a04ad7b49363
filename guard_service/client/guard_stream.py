"""The client's side of a moderation stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from guard_service.client.errors import domain_errors
from guard_service.moderation import Conversation, UnreadableVerdict
from guard_service.stream import Checkpoint
from guard_service.v1 import guard_pb2
from guard_service.validation import content_bytes
from guard_service.wire.conversation import conversation_to_wire
from guard_service.wire.verdict import checkpoint_from_wire

Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[guard_pb2.ModerateStreamRequest, guard_pb2.ModerateStreamResponse]"
)


class GuardStream:
    """A conversation whose last message grows.

    Send text and iterate over `checkpoints` at the same time; every method raises
    `ModerationError`s, and after the first the stream is over.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._num_characters = 0
        self._finished = False

    async def open(self, conversation: Conversation, policy_id: str, request_id: str) -> None:
        """Say which conversation grows; `GuardClient.stream` has done this."""
        self._num_characters = len(conversation[-1].content) if conversation else 0
        opening = guard_pb2.StreamOpen(
            conversation=conversation_to_wire(conversation),
            policy_id=policy_id,
            request_id=request_id,
        )
        await self._write(guard_pb2.ModerateStreamRequest(open=opening))

    async def send(self, text: str, *, check: bool = False) -> None:
        """Add text to the growing message; with `check`, ask for a checkpoint that covers it."""
        content_bytes("delta.text", text)
        self._num_characters += len(text)
        delta = guard_pb2.TextDelta(text=text, check=check)
        await self._write(guard_pb2.ModerateStreamRequest(delta=delta))

    async def finish(self) -> None:
        """Say that no more text will come: the final checkpoint follows."""
        self._finished = True
        with domain_errors():
            await self._call.done_writing()

    async def checkpoints(self) -> AsyncIterator[Checkpoint]:
        """Checkpoints as they are reached, the final one last.

        Raises:
            UnreadableVerdict: The server ended without a final verdict on everything sent, gave
                it before that was said to be all, or claims to have judged more.
        """
        final = False
        with domain_errors():
            async for response in self._call:
                checkpoint = checkpoint_from_wire(response)
                self._require_honest(checkpoint)
                final = final or checkpoint.final
                yield checkpoint
        if not final:
            raise UnreadableVerdict("the server ended the stream without a final verdict")

    async def _write(self, request: guard_pb2.ModerateStreamRequest) -> None:
        with domain_errors():
            try:
                await self._call.write(request)
            except asyncio.InvalidStateError:
                if self._call.done():
                    await self._raise_why_it_ended()
                raise

    async def _raise_why_it_ended(self) -> None:
        code = await self._call.code()
        if code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                code,
                await self._call.initial_metadata(),
                await self._call.trailing_metadata(),
                await self._call.details(),
            )

    def _require_honest(self, checkpoint: Checkpoint) -> None:
        covered, sent = checkpoint.num_characters, self._num_characters
        if covered > sent or (checkpoint.final and covered != sent):
            raise UnreadableVerdict(
                f"the server's checkpoint covers {covered} characters of {sent} that were sent"
            )
        if checkpoint.final and not self._finished:
            raise UnreadableVerdict("the server called a checkpoint final before the text ended")
