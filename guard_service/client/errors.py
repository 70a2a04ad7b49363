"""Back from gRPC statuses to the errors of the domain."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc
from grpc import StatusCode

from guard_service.moderation import (
    DeadlineExceeded,
    InvalidRequest,
    JudgementFailed,
    ModerationError,
    NotReady,
    Overloaded,
)

PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
REQUEST_ID_TRAILER = "guard-request-id"

_ERRORS: dict[StatusCode, type[ModerationError]] = {
    StatusCode.UNAVAILABLE: NotReady,
    StatusCode.CANCELLED: NotReady,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.INTERNAL: JudgementFailed,
}


@contextmanager
def domain_errors() -> Iterator[None]:
    """Let nothing but `ModerationError`s out of a conversation with the server."""
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        if failure.code() is StatusCode.INTERNAL and not _is_from_service(failure):
            # gRPC's own words for a connection that broke while something was being sent.
            raise NotReady("the connection to the server broke") from failure
        raise error_of(
            failure.code(), failure.details() or "", _retry_after_ms(failure.trailing_metadata())
        ) from failure
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # gRPC says a call that a stopping server cancelled as if its caller had done so.
        raise NotReady("the server let go of the call") from None
    except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as failure:
        raise JudgementFailed("the connection to the server cannot be used") from failure


def error_of(code: StatusCode, message: str, retry_after_ms: int | None) -> ModerationError:
    """The error behind a status; one the service does not use is a failed judgement."""
    if code is StatusCode.RESOURCE_EXHAUSTED:
        if retry_after_ms is not None and retry_after_ms >= 0:
            return Overloaded(message, retry_after_ms / 1000)
        # Too large, for the device's memory (by the service) or to be read (by the transport).
        return InvalidRequest("request", message)
    if code is StatusCode.INVALID_ARGUMENT:
        field, _, problem = message.partition(": ")
        return InvalidRequest(field, problem)
    if code in _ERRORS:
        return _ERRORS[code](message)
    return JudgementFailed(f"the server answered with the status {code.name}")


def code_of(number: int) -> StatusCode:
    """The status of a batch item; a number that is none, or that is OK, is `UNKNOWN`."""
    return next(
        (code for code in StatusCode if code.value[0] == number and code is not StatusCode.OK),
        StatusCode.UNKNOWN,
    )


def _is_from_service(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the service itself chose this status: every error of its own names the request."""
    return any(name == REQUEST_ID_TRAILER for name, _ in failure.trailing_metadata() or ())


def _retry_after_ms(trailers: Iterable[tuple[str, str | bytes]] | None) -> int | None:
    for name, value in trailers or ():
        if name == PUSHBACK_TRAILER:
            try:
                return int(value)
            except ValueError:
                return None
    return None
