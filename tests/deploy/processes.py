"""Programs started for a test, and services found by what they log."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0

Found = TypeVar("Found")


class Service:
    """A running process of ours, whose JSON log is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._events: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def logged(self, event: str) -> dict[str, Any]:
        """The next log line about `event`."""
        while True:
            try:
                entry = self._events.get(timeout=START_SECONDS)
            except Empty:
                raise AssertionError(f"'{event}' was never logged") from None
            assert entry["event"] != "the log ended", f"the process ended before '{event}'"
            if entry["event"] == event:
                return entry

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self._events.put(json.loads(line))
        self._events.put({"event": "the log ended"})


@contextmanager
def service(module: str, *flags: str, **environment: str) -> Iterator[Service]:
    """`python -m MODULE serve` on free ports, killed at the end."""
    quick = ("--port=0", "--metrics-port=0", "--lame-duck-seconds=0", "--log-format=json")
    command = [sys.executable, "-m", module, "serve", *quick, *flags]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True
    ) as process:
        running = Service(process)
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def program(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A program that writes to a file, killed at the end."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        ) as process,
    ):
        try:
            yield
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def until(look: Callable[[], Found | None], what: str, *, seconds: float = START_SECONDS) -> Found:
    """What `look` finds once it finds something."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        if (found := look()) is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")
