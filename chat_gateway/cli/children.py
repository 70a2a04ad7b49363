"""Child processes that are started together, watched, and stopped in the reverse order."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from guard_service.moderation import ConfigurationError

STOP_SECONDS = 50.0
"""Longer than either service may take to drain. Whoever presses Ctrl-C again does not wait."""


class Children:
    """Python modules run as child processes; leaving the context stops them all.

    They are sessions of their own, so that Ctrl-C reaches them only through their parent.
    """

    def __init__(self) -> None:
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        processes = [process for _, process in reversed(self._running)]
        try:
            for process in processes:
                process.send_signal(signal.SIGTERM)
                process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            for process in processes:
                process.kill()
                process.wait()

    def start(self, module: str, arguments: Sequence[str]) -> None:
        """Run `python -m module arguments`."""
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own modules
        self._running.append((module, process))

    def require_running(self) -> None:
        """Raise `ConfigurationError` if one has ended; it has said why on standard error."""
        for module, process in self._running:
            if (status := process.poll()) is not None:
                raise ConfigurationError(f"{module} ended with status {status}; see above")
