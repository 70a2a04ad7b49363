"""What surrounds one RPC: however it goes, it ends in a known status, counted and logged."""

import asyncio
import time
from types import TracebackType
from typing import Any

import grpc
import structlog
from structlog.contextvars import clear_contextvars

from guard_service.grpc_server.faults import log_fault
from guard_service.grpc_server.request_id import name_request, request_id
from guard_service.grpc_server.status import Status
from guard_service.metrics import Metrics
from guard_service.moderation import ModerationError

Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger(__name__)


class Call:
    """Async context manager around the handling of one RPC.

    Every exception leaves it as a status: this is the fail-closed boundary of the service.
    """

    def __init__(self, path: str, context: Context, metrics: Metrics) -> None:
        self._path = path
        self._context = context
        self._metrics = metrics
        self._started = time.monotonic()

    async def __aenter__(self) -> None:
        clear_contextvars()
        name_request()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish(grpc.StatusCode.OK)
        elif isinstance(error, grpc.aio.AbortError):
            self._finish(self._context.code())
        elif self._is_over(error):
            self._finish(self._reason_it_is_over())
        else:
            await self._abort(error)

    async def _abort(self, error: BaseException) -> None:
        status = Status.of(error)
        if not isinstance(error, ModerationError):
            log_fault(error)
        self._finish(status.code, problem=status.message)
        if self._context.done():
            # Nobody listens any more, and gRPC would log the original error with its text.
            raise grpc.aio.AbortError from None
        await self._context.abort(status.code, status.message, status.trailers(request_id()))

    def _is_over(self, error: BaseException) -> bool:
        """Whether gRPC ended the RPC; a stray cancellation inside the service does not."""
        task = asyncio.current_task()
        return isinstance(error, asyncio.CancelledError) and (
            self._context.done() or (task is not None and task.cancelling() > 0)
        )

    def _reason_it_is_over(self) -> grpc.StatusCode:
        if seconds_left(self._context) == 0:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.CANCELLED

    def _finish(self, code: grpc.StatusCode, **details: str) -> None:
        service, _, method = self._path.strip("/").rpartition("/")
        self._metrics.rpc_finished(method, code)
        say = _log.error if code is grpc.StatusCode.INTERNAL else _log.info
        if service.startswith("grpc."):
            say = _log.debug
        seconds = round(time.monotonic() - self._started, 6)
        say("rpc", method=method, code=code.name, seconds=seconds, **details)


def seconds_left(context: Context) -> float | None:
    """Until the caller's deadline, 0 once it has passed; None without one."""
    return context.time_remaining()
