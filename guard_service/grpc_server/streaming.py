"""A moderation stream on the wire: text comes in while checkpoints go out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

from guard_service.moderation import DeadlineExceeded, InvalidRequest
from guard_service.stream import Checkpoint, ModerationStream
from guard_service.v1 import guard_pb2


class Requests:
    """The caller's side of one stream: first `opening`, then `feed`.

    A caller who sends nothing for `idle_seconds` is not waited for.
    """

    def __init__(
        self, requests: AsyncIterator[guard_pb2.ModerateStreamRequest], *, idle_seconds: float
    ) -> None:
        self._requests = requests
        self._idle_seconds = idle_seconds
        self._has_text = False

    async def opening(self) -> guard_pb2.StreamOpen:
        """The message that opens the stream.

        Raises:
            InvalidRequest: The stream begins with anything else, or not at all.
        """
        request = await self._next()
        if request is None or request.WhichOneof("event") != "open":
            raise InvalidRequest("open", "must be the first message of a stream")
        messages = request.open.conversation.messages
        self._has_text = bool(messages and messages[-1].content.strip())
        return request.open

    async def feed(self, stream: ModerationStream) -> None:
        """Append every delta to `stream` and finish it when the caller closes their side.

        Raises:
            InvalidRequest: A message is no delta, is too much, or the stream ends without text.
            DeadlineExceeded: The caller went quiet.
        """
        while (request := await self._next()) is not None:
            if request.WhichOneof("event") != "delta":
                raise InvalidRequest("delta", "must be every message after the first")
            self._has_text = self._has_text or bool(request.delta.text.strip())
            stream.append(request.delta.text, check=request.delta.check)
        stream.finish()

    async def _next(self) -> guard_pb2.ModerateStreamRequest | None:
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(self._requests, None)
        except TimeoutError:
            problem = f"nothing was sent for {self._idle_seconds:g} seconds (stream_idle_seconds)"
            if self._has_text:
                raise DeadlineExceeded(f"the stream was idle: {problem}") from None
            raise InvalidRequest("delta.text", problem) from None


async def judge(
    stream: ModerationStream, requests: Requests, *, deadline: float | None
) -> AsyncGenerator[Checkpoint, None]:
    """Checkpoints of `stream` fed from `requests`; an error on either side ends both."""
    # One place: a caller who does not read holds judging back instead of piling verdicts up.
    outcomes: asyncio.Queue[Checkpoint | Exception | None] = asyncio.Queue(maxsize=1)

    async def put_checkpoints() -> None:
        async for checkpoint in stream.checkpoints(deadline=deadline):
            await outcomes.put(checkpoint)
        await outcomes.put(None)

    tasks = [
        asyncio.create_task(_hand_over_errors(requests.feed(stream), outcomes)),
        asyncio.create_task(_hand_over_errors(put_checkpoints(), outcomes)),
    ]
    try:
        while (outcome := await outcomes.get()) is not None:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _hand_over_errors(
    work: Awaitable[None], outcomes: asyncio.Queue[Checkpoint | Exception | None]
) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - handed over, and raised by the one who reads
        await outcomes.put(error)
