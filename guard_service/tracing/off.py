"""What tracing adds to a service, switched off: nothing. `on` has the other one."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import grpc
from structlog.typing import Processor

from guard_service.observer import Observer

Headers = Sequence[tuple[str, str]]
"""Names and values to send along with a call, as HTTP headers or as gRPC metadata."""

CountSpans = Callable[[str, int], None]
"""Told how many spans were `exported`, `failed` to be, or found the `queue_full`; any thread."""


class NoTracing:
    """Adds nothing, and needs no OpenTelemetry."""

    log_processors: Sequence[Processor] = ()
    """Put the ids of the current trace into log lines."""

    def exporting(self, count: CountSpans) -> AbstractContextManager[None]:
        """Send spans while the context lasts; leaving it waits for the last of them, briefly."""
        del count
        return nullcontext()

    def exemplar(self) -> dict[str, str] | None:
        """What leads from a measurement to the trace of the current request, if it is recorded."""
        return None

    def trace_id(self) -> str | None:
        """The trace of the current request, recorded or not."""
        return None

    def headers(self) -> Headers:
        """What tells the callee of the current span."""
        return ()

    def interceptors(self, *prefixes: str) -> Sequence[grpc.aio.ServerInterceptor]:
        """Go first at a gRPC server; calls whose path has one of the prefixes get a span."""
        del prefixes
        return ()

    def guard_observers(self) -> Sequence[Observer]:
        """Listen to the core of the guard."""
        return ()
