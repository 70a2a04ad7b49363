"""The committed code of the gateway's contract is what it generates."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ("chat_pb2.py", "chat_pb2.pyi", "chat_pb2_grpc.py", "chat_pb2_grpc.pyi")


def test_generating_again_changes_nothing(tmp_path: Path):
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True)

    for name in GENERATED:
        fresh = (tmp_path / "chat_gateway" / "v1" / name).read_text(encoding="utf-8")
        committed = (ROOT / "chat_gateway" / "v1" / name).read_text(encoding="utf-8")
        assert fresh == committed, f"{name} is stale: run python proto/generate.py"
