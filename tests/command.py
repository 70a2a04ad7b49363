"""The command line in a process of its own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "guard_service"]


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it printed."""

    status: int
    output: str
    error: str

    @property
    def one_line(self) -> str:
        """The error, which must be a single line that names the command."""
        name, _, problem = self.error.rstrip("\n").partition(": ")
        assert name == "guard-service", self.error
        assert "\n" not in problem, self.error
        return problem


def run(*arguments: str, text: str = "", **variables: str) -> Finished:
    finished = subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **variables},
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr)


async def run_beside(*arguments: str, text: str = "") -> Finished:
    """Run the command while this process serves."""
    return await asyncio.to_thread(run, *arguments, text=text)


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server process on the embedded model, killed at the end if it still runs."""
    quick = ["--port", "0", "--metrics-port", "0", "--lame-duck-seconds", "0"]
    process = subprocess.Popen(
        [*COMMAND, "serve", "--log-format", "json", *quick, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def logged(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    """The next log line about `event`."""
    for line in process.stderr:
        if line.startswith("{") and (entry := json.loads(line))["event"] == event:
            return entry
    pytest.fail(f"the server ended before it logged '{event}'")
