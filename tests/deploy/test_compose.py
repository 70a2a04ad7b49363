"""compose.yaml: accepted by docker-compose, as locked down as it says, and true to the code."""

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from chat_gateway.settings import load as load_gateway
from guard_service.settings import ServeSettings
from guard_service.settings import load as load_guard
from tests.deploy.dockerfile import ROOT, Image, read_dockerfile

COMPOSE = ROOT / "deploy" / "compose.yaml"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
OURS = ("guard", "gateway")


def config(program: str, file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "--file", str(file), "config", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=file.parent,
    )


@pytest.fixture(scope="module")
def services(needs_binary) -> dict[str, dict]:
    """The services as docker-compose reads them, with every variable at its default."""
    finished = config(needs_binary("docker-compose"), COMPOSE)
    assert finished.returncode == 0, finished.stderr
    return yaml.safe_load(finished.stdout)["services"]


def seconds(duration: str) -> int:
    assert duration.endswith("s"), duration
    return int(duration.removesuffix("s"))


def test_docker_compose_accepts_it_and_would_refuse_a_mistake(needs_binary, tmp_path: Path):
    program = needs_binary("docker-compose")
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text("utf-8").replace("read_only: true", "read_onyl: true"))

    assert config(program, COMPOSE, "--quiet").returncode == 0
    assert config(program, broken, "--quiet").returncode != 0


def test_only_loopback_is_published_and_only_what_is_needed(services):
    published = {
        name: service.get("ports", []) for name, service in services.items() if "ports" in service
    }

    assert published == {
        "gateway": [f"127.0.0.1:{load_gateway().port}:{load_gateway().port}/tcp"],
        "prometheus": ["127.0.0.1:9090:9090/tcp"],
    }


@pytest.mark.parametrize("name", [*OURS, "prometheus"])
def test_a_service_is_locked_down_and_bounded(services, name: str):
    service = services[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["cpus"]
    assert "user" not in service  # the images' own, who is nobody
    assert "privileged" not in service


def test_the_guard_has_no_way_out(services):
    networks = yaml.safe_load(COMPOSE.read_text("utf-8"))["networks"]

    assert list(services["guard"]["networks"]) == ["inside"]
    assert networks["inside"]["internal"] is True


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_a_target_of_this_version(services, name: str):
    service = services[name]
    image, _, tag = service["image"].partition(":")
    _, stages = read_dockerfile()

    assert service["build"]["target"] in stages
    assert image == {"guard": "guard-service", "gateway": "chat-gateway"}[name]
    assert tag == f"{VERSION}-embedded"


@pytest.mark.parametrize("name", OURS)
def test_a_health_check_is_the_images_own(services, name: str):
    service = services[name]
    image = Image(service["build"]["target"])

    assert service["healthcheck"]["test"] == ["CMD", *image.command("HEALTHCHECK")]


def test_the_guards_variables_are_settings_and_its_end_has_time(services, monkeypatch):
    for variable, value in services["guard"]["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = load_guard(ServeSettings)

    assert settings.model is None
    assert seconds(services["guard"]["stop_grace_period"]) >= (
        settings.lame_duck_seconds + settings.drain_seconds + 5
    )


def test_the_gateways_variables_are_settings_that_find_the_guard(services, monkeypatch):
    for variable, value in services["gateway"]["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = load_gateway()

    assert settings.guard == f"dns:///guard:{load_guard_port()}"
    assert settings.generator == "embedded"
    assert seconds(services["gateway"]["stop_grace_period"]) >= (
        settings.lame_duck_seconds + settings.drain_seconds + 5
    )


def load_guard_port() -> int:
    return ServeSettings.model_fields["port"].default


def test_an_upstream_instead_of_the_embedded_model_is_settings_alone(needs_binary, monkeypatch):
    monkeypatch.setenv("GATEWAY_GENERATOR", "openai")
    monkeypatch.setenv("GATEWAY_UPSTREAM_URL", "http://upstream:8000/v1")
    monkeypatch.setenv("GATEWAY_UPSTREAM_MODELS", "llama-3-8b")
    finished = config(needs_binary("docker-compose"), COMPOSE)
    services = yaml.safe_load(finished.stdout)["services"]
    for variable, value in services["gateway"]["environment"].items():
        monkeypatch.setenv(variable, value)

    assert load_gateway().upstream_models == ("llama-3-8b",)
    assert "llama-3-8b" in services["upstream"]["command"]


def test_prometheus_reads_files_that_exist(services):
    mounts = [mount.split(":")[0] for mount in services["prometheus"]["volumes"]]
    files = [Path(mount) for mount in mounts if mount.startswith("/")]

    assert len(files) == 2
    assert [file for file in files if not file.is_file()] == []
