"""The RPCs of `GuardService`: from the wire to the moderator and back."""
# ruff: noqa: N802 - the methods bear the names of the contract

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from guard_service.grpc_server.call import Context, seconds_left
from guard_service.grpc_server.faults import log_fault
from guard_service.grpc_server.request_id import name_request
from guard_service.grpc_server.status import Status
from guard_service.grpc_server.streaming import Requests, judge
from guard_service.moderation import InvalidRequest, ModerationError, Verdict
from guard_service.moderator import Moderator
from guard_service.service_info import ServiceInfo
from guard_service.v1 import guard_pb2, guard_pb2_grpc
from guard_service.wire.conversation import conversation_from_wire
from guard_service.wire.info import info_to_wire
from guard_service.wire.verdict import checkpoint_to_wire, verdict_to_wire


class GuardServicer(guard_pb2_grpc.GuardServiceServicer):
    """Answers RPCs; errors leave it as `ModerationError`s and get their status further out."""

    def __init__(self, moderator: Moderator, *, stream_idle_seconds: float) -> None:
        self._moderator = moderator
        self._stream_idle_seconds = stream_idle_seconds

    async def Moderate(
        self, request: guard_pb2.ModerateRequest, context: Context
    ) -> guard_pb2.ModerateResponse:
        """Judge one conversation."""
        request_id = name_request(request.request_id)
        verdict = await self._judge(request.conversation, request.policy_id, _deadline(context))
        return guard_pb2.ModerateResponse(verdict=verdict_to_wire(verdict), request_id=request_id)

    async def ModerateBatch(
        self, request: guard_pb2.ModerateBatchRequest, context: Context
    ) -> guard_pb2.ModerateBatchResponse:
        """Judge many conversations, each on its own."""
        request_id = name_request(request.request_id)
        self._check_batch_size(len(request.conversations))
        deadline = _deadline(context)
        outcomes = await asyncio.gather(
            *(
                self._judge(conversation, request.policy_id, deadline)
                for conversation in request.conversations
            ),
            return_exceptions=True,
        )
        return guard_pb2.ModerateBatchResponse(
            items=map(_batch_item, outcomes), request_id=request_id
        )

    async def ModerateStream(
        self,
        request_iterator: AsyncIterator[guard_pb2.ModerateStreamRequest],
        context: Context,
    ) -> AsyncIterator[guard_pb2.ModerateStreamResponse]:
        """Judge a growing message at every check and at its end."""
        requests = Requests(request_iterator, idle_seconds=self._stream_idle_seconds)
        opening = await requests.opening()
        request_id = name_request(opening.request_id)
        conversation = conversation_from_wire(opening.conversation)
        async with (
            self._moderator.open_stream(conversation, policy_id=opening.policy_id) as stream,
            aclosing(judge(stream, requests, deadline=_deadline(context))) as checkpoints,
        ):
            async for checkpoint in checkpoints:
                yield checkpoint_to_wire(checkpoint, request_id)

    async def GetInfo(
        self, request: guard_pb2.GetInfoRequest, context: Context
    ) -> guard_pb2.GetInfoResponse:
        """Describe the service."""
        del request, context
        moderator = self._moderator
        return info_to_wire(
            ServiceInfo(
                model=moderator.model,
                policies=tuple(moderator.policies.values()),
                default_policy_id=moderator.default_policy_id,
                limits=moderator.limits,
                max_context_tokens=moderator.max_context_tokens,
            )
        )

    async def _judge(
        self, conversation: guard_pb2.Conversation, policy_id: str, deadline: float | None
    ) -> Verdict:
        return await self._moderator.moderate(
            conversation_from_wire(conversation), policy_id=policy_id, deadline=deadline
        )

    def _check_batch_size(self, num_conversations: int) -> None:
        allowed = self._moderator.limits.max_batch_conversations
        if not 1 <= num_conversations <= allowed:
            raise InvalidRequest(
                "conversations", f"{num_conversations} given, 1 to {allowed} allowed"
            )


def _deadline(context: Context) -> float | None:
    """The caller's deadline on the monotonic clock."""
    remaining = seconds_left(context)
    return None if remaining is None else time.monotonic() + remaining


def _batch_item(outcome: Verdict | BaseException) -> guard_pb2.ModerateBatchItem:
    if isinstance(outcome, Verdict):
        return guard_pb2.ModerateBatchItem(verdict=verdict_to_wire(outcome))
    if not isinstance(outcome, ModerationError):
        log_fault(outcome)
    status = Status.of(outcome)
    return guard_pb2.ModerateBatchItem(
        error=guard_pb2.Status(
            code=status.code.value[0],
            message=status.message,
            retry_after_ms=status.retry_after_ms,
        )
    )
