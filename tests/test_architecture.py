"""The rules of the layout: who may import whom, and how large a part may grow."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "guard_service"
GATEWAY = ROOT / "chat_gateway"

DOMAIN = {
    "moderation", "policy", "policy_file", "prompt_formats", "neutralise", "limits", "observer",
    "observers", "batcher", "ticket", "moderator", "decision", "validation", "windows", "stream",
    "strict_yaml",
}  # fmt: skip
GATEWAY_EDGES = {
    "grpc_server", "http_api", "ext_proc", "http_door", "v1", "generators", "metrics", "tracing",
    "settings", "cli", "composition", "serving", "__main__",
}  # fmt: skip
"""Parts of the gateway that know a wire, a library or the whole; the others are its domain."""

PUBLISHED = {
    "moderation", "client", "v1", "wire", "service_info", "stream", "health_port", "instruments",
    "pretrained", "strict_yaml", "unread",
}  # fmt: skip
"""Parts of the guard that the gateway may use anywhere: its contract, its client, the port both
are probed on, how both are measured and give up a client, and how both read policies and the files
of a model."""

ROOT_ONLY = {"embedded", "logs", "configuration", "metrics_port", "tracing"}
"""What the gateway's composition root, settings and command line may use of the guard besides:
what both services are started with, so that a setting is given and documented in one way. The
gateway's tracing, which knows the whole too, builds on the guard's."""

WIRE_LIBRARIES = {"grpc", "grpc_health", "grpc_reflection", "google"}
MODEL_LIBRARIES = {"torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers"}
TUNING_LIBRARIES = {"trl", "datasets"}
HTTP_LIBRARIES = {"fastapi", "starlette", "uvicorn", "httpx"}
METRIC_LIBRARIES = {"prometheus_client"}
TRACE_LIBRARIES = {"opentelemetry"}
DRAWERS = {"utils", "util", "common", "helpers", "core", "shared", "misc"}

MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 300
MAX_README_LINES = 200


def modules(folder: Path = PACKAGE) -> list[Path]:
    """Hand-written Python files below `folder`."""
    return sorted(path for path in folder.rglob("*.py") if "_pb2" not in path.name)


def name_of(path: Path) -> str:
    """The dotted name of a module, without the package: `engine.loading`."""
    package = GATEWAY if path.is_relative_to(GATEWAY) else PACKAGE
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def outside(*allowed: str, package: Path = PACKAGE) -> list[Path]:
    """Modules that lie in none of these top-level parts of the package."""
    return [path for path in modules(package) if name_of(path).split(".")[0] not in allowed]


def domain() -> list[Path]:
    return [path for path in modules() if name_of(path).split(".")[0] in DOMAIN]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module or name a file imports, wherever in the file the import stands."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def importing(paths: Iterable[Path], forbidden: Callable[[str], bool]) -> list[str]:
    """Breaches, one line each."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in sorted(imports_of(path))
        if forbidden(name)
    ]


def test_the_domain_knows_no_wire_no_model_and_no_metrics():
    libraries = WIRE_LIBRARIES | MODEL_LIBRARIES | METRIC_LIBRARIES | TRACE_LIBRARIES

    assert importing(domain(), lambda name: name.split(".")[0] in libraries) == []


def test_the_domain_imports_only_the_domain_and_the_protocol_of_engines():
    def is_foreign(name: str) -> bool:
        package, _, inner = name.partition(".")
        own = inner.split(".")[0] in DOMAIN or inner.startswith("engine.protocol.")
        return package == "guard_service" and not own

    assert importing(domain(), is_foreign) == []


def test_model_libraries_stay_inside_the_engine():
    paths = outside("engine", "pretrained", "tuning")

    assert importing(paths, lambda name: name.split(".")[0] in MODEL_LIBRARIES) == []


def test_libraries_of_training_stay_inside_tuning():
    paths = outside("tuning") + modules(GATEWAY)

    assert importing(paths, lambda name: name.split(".")[0] in TUNING_LIBRARIES) == []


def test_generated_code_is_used_at_the_edge_only():
    paths = outside("grpc_server", "client", "wire", "v1", "health_port")

    assert importing(paths, lambda name: "_pb2" in name) == []


def test_the_guard_knows_nothing_of_the_gateway():
    assert importing(modules(), lambda name: name.split(".")[0] == "chat_gateway") == []


def test_the_gateway_uses_what_the_guard_publishes():
    def is_private(name: str) -> bool:
        package, _, inner = name.partition(".")
        return package == "guard_service" and inner.split(".")[0] not in PUBLISHED | ROOT_ONLY

    def is_for_the_root(name: str) -> bool:
        package, _, inner = name.partition(".")
        return package == "guard_service" and inner.split(".")[0] in ROOT_ONLY

    inside = outside("composition", "settings", "cli", "tracing", package=GATEWAY)

    assert importing(modules(GATEWAY), is_private) == []
    assert importing(inside, is_for_the_root) == []


def test_the_gateways_domain_knows_no_wire_no_model_and_no_metrics():
    edges = WIRE_LIBRARIES | METRIC_LIBRARIES | HTTP_LIBRARIES | TRACE_LIBRARIES
    libraries = edges | MODEL_LIBRARIES
    domain = outside(*GATEWAY_EDGES, package=GATEWAY)

    assert importing(domain, lambda name: name.split(".")[0] in libraries) == []


def test_the_gateways_model_libraries_stay_inside_its_generator():
    paths = [
        path for path in modules(GATEWAY) if not name_of(path).startswith("generators.transformers")
    ]

    assert importing(paths, lambda name: name.split(".")[0] in MODEL_LIBRARIES) == []


def test_trace_libraries_stay_inside_tracing():
    paths = outside("tracing") + outside("tracing", package=GATEWAY)

    assert importing(paths, lambda name: name.split(".")[0] in TRACE_LIBRARIES) == []


def test_the_gateways_generated_code_is_used_at_the_edge_only():
    paths = outside("grpc_server", "ext_proc", "v1", package=GATEWAY)

    assert importing(paths, lambda name: "_pb2" in name) == []


def test_the_environment_is_read_by_settings_and_cli_only():
    # The packages of the models set one variable that OpenMP reads when torch is loaded.
    loaders = {"engine", "generators.transformers"}
    edges = outside("settings", "configuration", "cli") + outside(
        "settings", "cli", package=GATEWAY
    )
    paths = [path for path in edges if name_of(path) not in loaders]
    readers = [
        str(path.relative_to(ROOT))
        for path in paths
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}
    ]

    assert readers == []


def test_no_module_is_a_drawer():
    paths = modules() + modules(GATEWAY)

    assert [path for path in paths if DRAWERS & set(name_of(path).split("."))] == []


def test_every_module_says_its_job_first():
    paths = modules() + modules(GATEWAY)

    assert [path for path in paths if not ast.get_docstring(tree_of(path))] == []


def hand_written() -> Iterator[Path]:
    for folder in ("guard_service", "chat_gateway", "tests", "benchmarks", "proto", "deploy"):
        yield from modules(ROOT / folder)


def test_files_stay_short():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in hand_written()
        if "tests" not in path.relative_to(ROOT).parts
    }

    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_stay_short():
    lengths = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in hand_written()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


def test_the_readme_stays_readable_in_one_sitting():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()

    assert len(lines) <= MAX_README_LINES


@pytest.mark.parametrize(
    "module",
    [
        "guard_service.grpc_server.server",
        "guard_service.client",
        "guard_service.cli",
        "guard_service.moderator",
        "chat_gateway.cli",
        "chat_gateway.serving",
    ],
)
def test_importing_the_service_does_not_load_torch(module: str):
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    finished = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT)

    assert finished.returncode == 0
