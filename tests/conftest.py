"""Fixtures every test may ask for."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Idle OpenMP workers must sleep: spinning ones slow a busy two-core machine down many times over.
# Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the shell it was started from."""
    for name in list(os.environ):
        if name.startswith(("GUARD_", "GATEWAY_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def needs_binary() -> Callable[[str], str]:
    """Path of a program; without it the test skips on a developer's machine and fails in CI.

    Programs that pip installed beside this interpreter are found first.
    """
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))

    def find(name: str) -> str:
        path = shutil.which(name, path=places)
        if path is not None:
            return path
        reason = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find
