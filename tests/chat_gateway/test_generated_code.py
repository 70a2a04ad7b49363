"""The committed code of the gateway's contract is what it generates."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = (
    "v1/chat_pb2.py",
    "v1/chat_pb2.pyi",
    "v1/chat_pb2_grpc.py",
    "v1/chat_pb2_grpc.pyi",
    "ext_proc/v3/external_processor_pb2.py",
    "ext_proc/v3/external_processor_pb2.pyi",
)


def test_generating_again_changes_nothing(tmp_path: Path):
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True)

    for name in GENERATED:
        fresh = (tmp_path / "chat_gateway" / name).read_text(encoding="utf-8")
        committed = (ROOT / "chat_gateway" / name).read_text(encoding="utf-8")
        assert fresh == committed, f"{name} is stale: run python proto/generate.py"
