"""The one table from errors to gRPC statuses, and what a caller reads about an error."""

import math
from dataclasses import dataclass

from grpc import StatusCode

from chat_gateway.chat import (
    GatewayError,
    GeneratorFailed,
    GuardUnavailable,
    InvalidChat,
    OutOfTime,
    TooBusy,
    UnknownModel,
)

REQUEST_ID = "gateway-request-id"
"""Name of the request's id, in initial and trailing metadata."""

PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
"""Milliseconds after which gRPC clients try again (gRFC A6)."""

UNEXPECTED = "the gateway failed unexpectedly; nothing more was answered"
"""What a caller reads about an error nobody foresaw: its own text may hold theirs."""

CODES: dict[type[GatewayError], StatusCode] = {
    InvalidChat: StatusCode.INVALID_ARGUMENT,
    UnknownModel: StatusCode.NOT_FOUND,
    TooBusy: StatusCode.RESOURCE_EXHAUSTED,
    GuardUnavailable: StatusCode.UNAVAILABLE,
    GeneratorFailed: StatusCode.UNAVAILABLE,
    OutOfTime: StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class Status:
    """How an RPC ends without an answer."""

    code: StatusCode
    message: str
    retry_after_ms: int | None = None

    @classmethod
    def of(cls, error: BaseException) -> "Status":
        """The status of an error; one outside the table is `INTERNAL` with a fixed sentence."""
        code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)
        if code is None:
            return cls(StatusCode.INTERNAL, UNEXPECTED)
        if isinstance(error, TooBusy):
            return cls(code, str(error), math.ceil(error.retry_after_seconds * 1000))
        return cls(code, str(error))

    def trailers(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """The trailing metadata of an RPC that ends in this status."""
        named = (REQUEST_ID, request_id)
        if self.retry_after_ms is None:
            return (named,)
        return (named, (PUSHBACK_TRAILER, str(self.retry_after_ms)))
