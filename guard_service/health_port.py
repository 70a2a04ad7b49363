"""Health on a port of its own, answered by threads that neither a model nor an event loop holds up.

A probe of the main port waits while the event loop is busy and finds nothing while the model loads;
a healthy process would then be killed. TLS on the main port does not reach here either.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from guard_service.listening import require_free
from guard_service.moderation import ConfigurationError

OVERALL = ""
LIVE = "live"
READY = "ready"
UPDATE_SECONDS = 0.5
"""How often a report should be renewed, and how often its age is looked at."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 1024),
    ("grpc.max_concurrent_streams", 64),
)


class HealthPort:
    """Serves `grpc.health.v1` and nothing else while its context lasts.

    Live and not ready until the first report, however long loading takes. From then on a report
    holds until the next is `stall_seconds` late: who reports from an event loop need not notice
    that it is stuck. Thread-safe.
    """

    def __init__(self, host: str, port: int, *, stall_seconds: float) -> None:
        self._host = host
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._holds_until = float("inf")
        self._closed = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="health", daemon=True)
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="health")
        self._servicer = HealthServicer()
        self._server = grpc.server(self._threads, options=_OPTIONS)
        self.port = port

    def __enter__(self) -> Self:
        """Open the port; 0 becomes the one that was bound.

        Raises:
            ConfigurationError: The address cannot be bound.
        """
        self._say(live=True, ready=False)
        add_HealthServicer_to_server(self._servicer, self._server)
        require_free(self._host, self.port)
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{self.port}")
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {host}:{self.port}") from error
        self._server.start()
        self._watchdog.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._watchdog.join()
        self._server.stop(grace=None).wait()
        self._threads.shutdown()

    def report(self, *, live: bool, ready: bool) -> None:
        """Say how things stand now; what is not live is not ready."""
        with self._lock:
            self._holds_until = time.monotonic() + UPDATE_SECONDS + self._stall_seconds
            self._say(live=live, ready=live and ready)

    def _watch(self) -> None:
        while not self._closed.wait(UPDATE_SECONDS):
            with self._lock:
                if time.monotonic() > self._holds_until:
                    self._say(live=False, ready=False)

    def _say(self, *, live: bool, ready: bool) -> None:
        self._servicer.set(LIVE, _status(serving=live))
        self._servicer.set(READY, _status(serving=ready))
        self._servicer.set(OVERALL, _status(serving=ready))


def _status(*, serving: bool) -> int:
    return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
