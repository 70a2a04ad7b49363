"""Build and run the images with buildah and podman, which need neither a daemon nor a registry."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.deploy.dockerfile import DOCKERFILE, ROOT

BASE = "localhost/moderation-base"
CERTIFICATES = "/run/ca.pem"
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
CONFINED = (
    *("--runtime", "runc", "--pull", "never", "--network", "host", "--no-healthcheck"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges"),
)
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Container:
    """A running container, or one that has ended."""

    engine: "Engine"
    id: str

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside; no shell is in between."""
        return self.engine.podman("exec", self.id, *command, check=False)

    def signal(self, name: str) -> None:
        self.engine.podman("kill", "--signal", name, self.id)

    @property
    def log(self) -> str:
        finished = self.engine.podman("logs", self.id)
        return finished.stdout + finished.stderr

    def logged(self, event: str) -> None:
        """Wait for a line about this."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while f'"{event}"' not in self.log:
            assert self.is_running, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.2)

    @property
    def is_running(self) -> bool:
        running: bool = self._state["Running"]
        return running

    @property
    def usage(self) -> dict[str, float]:
        """What its process has taken so far, which other work on the machine changes little."""
        process = psutil.Process(self._state["Pid"])
        return {
            "processor_seconds": round(sum(process.cpu_times()[:2]), 1),
            "resident_megabytes": round(process.memory_info().rss / 1e6),
        }

    def ended(self) -> int:
        """Wait for the end; the exit status."""
        return int(self.engine.podman("wait", self.id, timeout=PATIENCE_SECONDS).stdout)

    @property
    def _state(self) -> dict[str, Any]:
        [found] = json.loads(self.engine.podman("inspect", self.id).stdout)
        return found["State"]


class Engine:
    """Images and containers in a storage of their own."""

    def __init__(self, storage: Path, *, base: str | None) -> None:
        self._storage = ("--root", str(storage / "root"), "--runroot", str(storage / "runroot"))
        self._folder = storage
        self._base = base

    def podman(
        self, *arguments: str, check: bool = True, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        finished = subprocess.run(
            ["podman", *self._storage, *arguments],
            cwd=self._folder,  # where the monitor leaves its file `oom`
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert finished.returncode == 0 or not check, finished.stderr
        return finished

    def build(self, target: str) -> str:
        """The image of a target, built here."""
        name = f"localhost/{target}"
        arguments = {"BASE": self._base or self._built_base(), "REVISION": "test"}
        mounts: list[str] = []
        if certificates := os.environ.get("PIP_CERT"):
            arguments["PIP_CERT"] = CERTIFICATES
            mounts += ["--volume", f"{certificates}:{CERTIFICATES}:ro"]
        for variable in PIP_VARIABLES:
            for place in filter(None, [os.environ.get(variable)]):
                arguments[variable] = place
                if Path(place).is_dir():
                    mounts += ["--volume", f"{place}:{place}:ro"]
        given = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
        subprocess.run(
            [
                *("buildah", *self._storage, "build", "--isolation", "chroot", "--layers"),
                *("--format", "docker", "--pull-never", *mounts, *given),
                *("--file", str(DOCKERFILE), "--target", target, "--tag", name, str(ROOT)),
            ],
            check=True,
        )
        return name

    def inspect(self, image: str) -> dict:
        [found] = json.loads(self.podman("image", "inspect", image).stdout)
        return found

    @contextmanager
    def running(
        self, image: str, *command: str, options: tuple[str, ...] = (), **variables: str
    ) -> Iterator[Container]:
        """A confined container, removed at the end."""
        given = [word for pair in variables.items() for word in ("--env", "=".join(pair))]
        started = self.podman("run", "--detach", *CONFINED, *options, *given, image, *command)
        container = Container(self, started.stdout.strip())
        try:
            yield container
        finally:
            self.podman("rm", "--force", "--time", "0", container.id)

    def _built_base(self) -> str:
        """Debian with its own Python, where no registry is at hand."""
        if self.podman("image", "exists", BASE, check=False).returncode == 0:
            return BASE
        tree = self._folder / "base"
        packages = "python3,python3-venv,ca-certificates"
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(tree)],
            check=True,
        )
        shutil.rmtree(tree / "var/cache/apt/archives")
        with subprocess.Popen(
            ["tar", "--directory", str(tree), "--create", "."], stdout=subprocess.PIPE
        ) as tar:
            subprocess.run(
                ["podman", *self._storage, "import", "-", BASE], stdin=tar.stdout, check=True
            )
        shutil.rmtree(tree)
        return BASE
