"""The one table from errors to gRPC statuses, and what a caller reads about an error."""

import math
from dataclasses import dataclass

from grpc import StatusCode

from guard_service.moderation import (
    DeadlineExceeded,
    InvalidRequest,
    JudgementFailed,
    ModerationError,
    NotReady,
    OutOfMemory,
    Overloaded,
)

REQUEST_ID_TRAILER = "guard-request-id"
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
"""Milliseconds after which gRPC clients try again (gRFC A6)."""
NEVER_AGAIN = "-1"
"""What keeps them from trying again."""

UNEXPECTED = "the service failed unexpectedly; no verdict was reached"
"""What a caller reads about an error nobody foresaw: its own text may hold theirs."""

CODES: dict[type[ModerationError], StatusCode] = {
    InvalidRequest: StatusCode.INVALID_ARGUMENT,
    Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    OutOfMemory: StatusCode.RESOURCE_EXHAUSTED,
    NotReady: StatusCode.UNAVAILABLE,
    DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    JudgementFailed: StatusCode.INTERNAL,
}


@dataclass(frozen=True, slots=True)
class Status:
    """How an RPC, or one item of a batch, ends without a verdict."""

    code: StatusCode
    message: str
    retry_after_ms: int | None = None

    @classmethod
    def of(cls, error: BaseException) -> "Status":
        """The status of an error; one outside the table is `INTERNAL` with a fixed sentence."""
        code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)
        if code is None:
            return cls(StatusCode.INTERNAL, UNEXPECTED)
        if isinstance(error, Overloaded):
            return cls(code, str(error), math.ceil(error.retry_after_seconds * 1000))
        return cls(code, str(error))

    def trailers(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """The trailing metadata of an RPC that ends in this status."""
        named = (REQUEST_ID_TRAILER, request_id)
        if self.code is not StatusCode.RESOURCE_EXHAUSTED:
            return (named,)
        pushback = NEVER_AGAIN if self.retry_after_ms is None else str(self.retry_after_ms)
        return (named, (PUSHBACK_TRAILER, pushback))
