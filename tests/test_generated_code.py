"""The contract is well-formed, and the committed code is what it generates."""

import shutil
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
def test_buf_finds_nothing_to_object_to(arguments: list[str], needs_binary: Callable[[str], str]):
    finished = subprocess.run(
        [needs_binary("buf"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


@pytest.fixture
def buf_breaking(
    tmp_path: Path, needs_binary: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], subprocess.CompletedProcess[str]]:
    """Compare the guard's contract, after one replacement in it, with the released one."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    buf = needs_binary("buf")

    def compare(before: str, after: str) -> subprocess.CompletedProcess[str]:
        shutil.copy(ROOT / "buf.yaml", tmp_path)
        shutil.copytree(ROOT / "proto", tmp_path / "proto")
        contract = tmp_path / "proto/guard_service/v1/guard.proto"
        source = contract.read_text(encoding="utf-8")
        assert before in source
        contract.write_text(source.replace(before, after), encoding="utf-8")
        command = [buf, "breaking", "--against", ROOT / "proto/released.binpb"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return compare


def test_the_contract_breaks_no_client_of_the_last_release(buf_breaking):
    unchanged = buf_breaking("", "")

    assert (unchanged.returncode, unchanged.stdout) == (0, "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("string content = 2;", "string content = 20;"),
        ("string content = 2;", "bytes content = 2;"),
        ("ROLE_TOOL = 4;", "ROLE_TOOLS = 4;"),
        ("rpc GetInfo(", "rpc Info("),
    ],
)
def test_a_change_that_would_break_clients_is_found(buf_breaking, before: str, after: str):
    broken = buf_breaking(before, after)

    assert broken.returncode == 100
    assert "guard.proto" in broken.stdout


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
