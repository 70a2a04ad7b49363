"""The audit trail: one JSON line per decision, with a keyed digest in place of the text."""

import hashlib
import hmac
import json
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from chat_gateway.observer import Decision, NullObserver
from guard_service.moderation import ConfigurationError, Verdict

RETRY_SECONDS = 1.0
CLOSE_SECONDS = 5.0

TraceId = Callable[[], str | None]
"""The trace that the current task works for, if there is one."""

_log = structlog.get_logger(__name__)


def no_trace() -> None:
    """There is none."""


class AuditMetrics(Protocol):
    """Told of what became of records; from the writer's thread too."""

    def audit_record(self, result: str) -> None:
        """A record was `written` or `dropped`."""

    def audit_write_failed(self) -> None:
        """An attempt to write failed."""


class AuditTrail(NullObserver):
    """Writes decisions to `path`, on a thread of its own, while its context lasts.

    While the file cannot be written (a full disk), records wait and the write is tried again every
    second; more than `max_waiting` are dropped and counted. A file that was moved away is begun
    anew. Records are handed to the operating system at once but not forced onto the disk.
    """

    def __init__(
        self,
        path: Path,
        key: bytes,
        *,
        max_waiting: int,
        metrics: AuditMetrics,
        trace_id: TraceId = no_trace,
    ) -> None:
        self._path = path
        self._key = key
        self._trace_id = trace_id
        self._metrics = metrics
        self._waiting: queue.Queue[bytes | None] = queue.Queue(max_waiting)
        self._failing = threading.Event()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._file = _open(path)

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        with suppress(queue.Full):  # a writer that hangs is not waited for
            self._waiting.put(None, timeout=CLOSE_SECONDS)
        self._writer.join(CLOSE_SECONDS)
        while not self._waiting.empty():
            if self._waiting.get_nowait() is not None:
                self._metrics.audit_record("dropped")
        if not self._writer.is_alive():
            os.close(self._file)

    @property
    def is_working(self) -> bool:
        """Whether a decision made now would be recorded."""
        return not self._failing.is_set() and not self._waiting.full()

    def decided(self, decision: Decision) -> None:
        """Record a decision; returns at once."""
        line = json.dumps(record_of(decision, self._key, self._trace_id())) + "\n"
        try:
            self._waiting.put_nowait(line.encode())
        except queue.Full:
            self._metrics.audit_record("dropped")

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            result = "written" if self._write(line) else "dropped"
            self._metrics.audit_record(result)

    def _write(self, line: bytes) -> bool:
        """Whether the whole line was written; tries until it is, or until the trail closes."""
        rest = memoryview(line)
        while True:
            try:
                if self._was_moved():
                    self._begin_anew()
                    rest = memoryview(line)
                while rest:
                    # What a full disk took of a line is continued later, never repeated.
                    rest = rest[os.write(self._file, rest) :]
            except OSError as error:
                self._note_failure(error)
                if self._closing.wait(RETRY_SECONDS):
                    return False
            else:
                self._note_success()
                return True

    def _was_moved(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return True

    def _begin_anew(self) -> None:
        moved, self._file = self._file, _open_raw(self._path)
        os.close(moved)

    def _note_failure(self, error: OSError) -> None:
        is_news = not self._failing.is_set()
        self._failing.set()
        self._metrics.audit_write_failed()
        if is_news:
            _log.error("audit records cannot be written", reason=error.strerror)

    def _note_success(self) -> None:
        if self._failing.is_set():
            _log.warning("audit records are written again", num_waiting=self._waiting.qsize())
        self._failing.clear()


def record_of(decision: Decision, key: bytes, trace_id: str | None) -> dict[str, Any]:
    """What is kept of a decision: never its text, but a digest that its owner can recognise."""
    policy = decision.policy
    return {
        "time": datetime.now(UTC).isoformat(),
        "request_id": decision.request_id,
        "kind": decision.kind,
        "trace_id": trace_id,
        "gateway_policy": policy.id,
        "mode": policy.mode,
        "phase": decision.phase,
        "part": decision.part,
        "choice": decision.choice,
        "action": decision.action,
        "reason": decision.reason,
        "guard_seconds": round(decision.guard_seconds, 6),
        "num_characters": len(decision.text),
        "text_hmac_sha256": digest_of(decision.text, key),
        "verdict": None if decision.verdict is None else _verdict_record(decision.verdict),
    }


def digest_of(text: str, key: bytes) -> str:
    """HMAC-SHA-256 of the text's UTF-8 bytes, in hexadecimal."""
    return hmac.new(key, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    return {
        "unsafe": verdict.unsafe,
        "unsafe_probability": verdict.unsafe_probability,
        "categories": {each.code: each.probability for each in verdict.categories},
        "first_category": {each.code: each.probability for each in verdict.first_category},
        "model": {"id": verdict.model.id, "revision": verdict.model.revision},
        "policy": {
            "id": verdict.policy_id,
            "version": verdict.policy_version,
            "digest": verdict.policy_digest,
        },
        "coverage": verdict.coverage.share,
        "inference_seconds": round(verdict.timings.inference_seconds, 6),
        "total_seconds": round(verdict.timings.total_seconds, 6),
    }


def _open(path: Path) -> int:
    try:
        return _open_raw(path)
    except OSError as error:
        raise ConfigurationError(
            f"GATEWAY_AUDIT_FILE: cannot write {path}: {error.strerror}"
        ) from error


def _open_raw(path: Path) -> int:
    """For its owner alone: even without the text, records say who was blocked and why."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
