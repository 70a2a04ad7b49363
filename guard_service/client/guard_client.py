"""The client's calls."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import grpc

from guard_service.client.errors import code_of, domain_errors, error_of
from guard_service.client.guard_stream import GuardStream
from guard_service.client.service_config import SERVICE_CONFIG
from guard_service.moderation import Conversation, ModerationError, UnreadableVerdict, Verdict
from guard_service.service_info import ServiceInfo
from guard_service.v1 import guard_pb2, guard_pb2_grpc
from guard_service.wire.conversation import conversation_to_wire
from guard_service.wire.info import info_from_wire
from guard_service.wire.verdict import verdict_from_wire

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_REPLY_BYTES = 64 * 2**20
MAX_RECONNECT_MS = 1000
"""Pause between attempts to connect. gRPC's own grows to two minutes: a guard that took as long to
load would be ready all that time before it is found."""
MIN_RESOLUTION_MS = 1000
"""Pause between two looks at the name. gRPC's own is half a minute: a guard that took the place of
another would not be found before, and may be the only one by then."""

CallMetadata = Callable[[], Sequence[tuple[str, str]]]


class GuardClient:
    """A connection to one or many servers, as an async context manager.

    `target` is `host:port`, `dns:///name:port` for all addresses behind a name, or several
    addresses as `ipv4:10.0.0.1:50051,10.0.0.2:50051`. Calls go round the servers that report
    ready. Every call raises `ModerationError`s and nothing else; an error is never a safe verdict.
    `metadata` is asked at every call what to send along, such as a trace's id.
    """

    def __init__(self, target: str, *, metadata: CallMetadata = tuple) -> None:
        self._metadata = metadata
        self._channel = grpc.aio.insecure_channel(
            target,
            options=(
                ("grpc.service_config", SERVICE_CONFIG),
                ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
                ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_MS),
                ("grpc.dns_min_time_between_resolutions_ms", MIN_RESOLUTION_MS),
            ),
        )
        self._stub = guard_pb2_grpc.GuardServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def moderate(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Verdict:
        """The verdict on the last turn, retries included, within `timeout_seconds`."""
        request = guard_pb2.ModerateRequest(
            conversation=conversation_to_wire(conversation),
            policy_id=policy_id,
            request_id=request_id,
        )
        with domain_errors():
            response = await self._stub.Moderate(
                request, timeout=timeout_seconds, metadata=self._metadata()
            )
        return verdict_from_wire(response.verdict)

    async def moderate_batch(
        self,
        conversations: Sequence[Conversation],
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> list[Verdict | ModerationError]:
        """A verdict for each conversation, or the error that kept it from having one, in order.

        Raises:
            ModerationError: The batch as a whole failed.
        """
        request = guard_pb2.ModerateBatchRequest(
            conversations=map(conversation_to_wire, conversations),
            policy_id=policy_id,
            request_id=request_id,
        )
        with domain_errors():
            response = await self._stub.ModerateBatch(
                request, timeout=timeout_seconds, metadata=self._metadata()
            )
        if len(response.items) != len(conversations):
            raise UnreadableVerdict(
                f"the server answered {len(response.items)} of {len(conversations)} conversations"
            )
        return [_outcome(item) for item in response.items]

    @asynccontextmanager
    async def stream(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[GuardStream]:
        """Judge again and again as the last message, which may start empty, grows."""
        with domain_errors():
            call = self._stub.ModerateStream(timeout=timeout_seconds, metadata=self._metadata())
        try:
            stream = GuardStream(call)
            await stream.open(conversation, policy_id, request_id)
            yield stream
        finally:
            call.cancel()

    async def info(self, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> ServiceInfo:
        """Which model judges, by which policies, within which limits."""
        with domain_errors():
            response = await self._stub.GetInfo(
                guard_pb2.GetInfoRequest(), timeout=timeout_seconds, metadata=self._metadata()
            )
        return info_from_wire(response)


def _outcome(item: guard_pb2.ModerateBatchItem) -> Verdict | ModerationError:
    if item.WhichOneof("result") == "error":
        error = item.error
        retry_after_ms = error.retry_after_ms if error.HasField("retry_after_ms") else None
        return error_of(code_of(error.code), error.message, retry_after_ms)
    try:
        return verdict_from_wire(item.verdict)
    except UnreadableVerdict as unreadable:
        return unreadable
