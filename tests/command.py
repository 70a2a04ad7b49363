"""The command line in a process of its own."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
