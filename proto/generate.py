"""Generates the Python code of the protobuf contracts: `python proto/generate.py [FOLDER]`."""

import sys
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).parent
PACKAGE_ROOT = PROTO_ROOT.parent
SERVICES = ("guard_service/v1/guard.proto", "chat_gateway/v1/chat.proto")
SOURCES = (*SERVICES, "chat_gateway/ext_proc/v3/external_processor.proto")


def plugin(name: str) -> str:
    """The protoc option that names a plugin installed beside this interpreter."""
    return f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"


def generate(output: Path) -> int:
    """Write modules and stubs of all messages and services under `output`; protoc's exit code."""
    messages = [f"--python_out={output}", f"--mypy_out={output}", *SOURCES]
    services = [f"--grpc_python_out={output}", f"--mypy_grpc_out={output}", *SERVICES]
    return _protoc(plugin("mypy"), *messages) or _protoc(plugin("mypy_grpc"), *services)


def _protoc(*arguments: str) -> int:
    return protoc.main(["protoc", f"--proto_path={PROTO_ROOT}", *arguments])


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE_ROOT))
