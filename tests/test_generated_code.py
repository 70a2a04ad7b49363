"""The contract is well-formed, and the committed code is what it generates."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = (
    "guard_pb2.py",
    "guard_pb2.pyi",
    "guard_pb2_grpc.py",
    "guard_pb2_grpc.pyi",
)


def test_generating_again_changes_nothing(tmp_path: Path):
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True)

    for name in GENERATED:
        fresh = (tmp_path / "guard_service" / "v1" / name).read_text(encoding="utf-8")
        committed = (ROOT / "guard_service" / "v1" / name).read_text(encoding="utf-8")
        assert fresh == committed, f"{name} is stale: run python proto/generate.py"


@pytest.mark.parametrize("arguments", [["lint"], ["format", "--diff", "--exit-code"]])
def test_buf_finds_nothing_to_object_to(
    arguments: list[str], needs_binary: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    finished = subprocess.run(
        [needs_binary("buf"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_every_part_of_the_contract_is_explained():
    source = (ROOT / "proto/guard_service/v1/guard.proto").read_text(encoding="utf-8")
    lines = [line.strip() for line in source.splitlines()]
    declared = ("rpc ", "message ", "enum ", "service ", "oneof ")

    unexplained = [
        line
        for before, line in pairwise(lines)
        if (line.startswith(declared) or ("= " in line and line.endswith(";")))
        and not line.startswith(("//", "syntax"))
        and not before.startswith("//")
    ]

    assert unexplained == []
