"""A real `guard-service serve` in a process of its own."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

import psutil
from prometheus_client.parser import text_string_to_metric_families

START_SECONDS = 600.0
STOP_SECONDS = 120.0


class GuardProcess:
    """Starts on entering, on free ports, and is ready then; is told to stop on leaving.

    Without a `model` folder it serves the embedded guard. `settings` are flags, by setting name.
    """

    def __init__(self, model: Path | None = None, **settings: str | float) -> None:
        settings = {"port": 0, "metrics_port": 0, "log_format": "json", **settings}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        chosen = [] if model is None else [f"--model={model}"]
        self._command = [sys.executable, "-m", "guard_service", "serve", *flags, *chosen]
        self._process: subprocess.Popen[str] | None = None
        self._events: Queue[dict[str, Any]] = Queue()
        self._metrics_port = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603
            self._command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self._read_events, daemon=True).start()
        self._metrics_port = int(self.wait_for("starting")["metrics_port"])
        self.port = int(self.wait_for("ready")["port"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process, once started."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    @property
    def target(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    @property
    def resident_bytes(self) -> int:
        """Physical memory it holds now."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def peak_resident_bytes(self) -> int:
        """The most physical memory it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(peak) * 1024

    def metric(self, name: str) -> float:
        """Sum of the samples of one metric on /metrics."""
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(url) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        return sum(s.value for family in families for s in family.samples if s.name == name)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next log event of this name.

        Raises:
            RuntimeError: the server ended, or took too long.
        """
        while True:
            try:
                logged = self._events.get(timeout=START_SECONDS)
            except Empty:
                raise RuntimeError(f"the server never logged '{event}'") from None
            if logged.get("event") == event:
                return logged
            if logged.get("event") == "end of log":
                raise RuntimeError(f"the server ended before it logged '{event}'")

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Send SIGTERM and wait; the exit code."""
        self.terminate()
        return self.process.wait(STOP_SECONDS)

    def _read_events(self) -> None:
        for line in self.process.stderr or ():
            with contextlib.suppress(json.JSONDecodeError):
                self._events.put(json.loads(line))
        self._events.put({"event": "end of log"})
