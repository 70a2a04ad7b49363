"""The Dockerfile agrees with the code and keeps its promises; `make images-test` builds it."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chat_gateway.cli import app as gateway_app
from chat_gateway.settings import load as load_gateway
from guard_service.cli import app as guard_app
from guard_service.settings import ServeSettings
from guard_service.settings import load as load_guard
from tests.deploy.dockerfile import ROOT, Image, read_dockerfile

GUARDS = ("guard", "guard-embedded")
GATEWAYS = ("gateway", "gateway-model", "gateway-embedded")
TARGETS = (*GUARDS, *GATEWAYS)
REQUIREMENTS = ROOT / "deploy" / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins(name: str) -> dict[str, str]:
    lines = (REQUIREMENTS / name).read_text("utf-8").splitlines()
    found = [re.match(r"([a-z0-9._-]+)==(\S+) \\$", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def commands_of(app: object) -> set[str]:
    return {each.name or each.callback.__name__ for each in app.registered_commands}


def argument(stage: str, name: str) -> str:
    _, stages = read_dockerfile()
    [value] = [
        rest.partition("=")[2]
        for word, rest in stages[stage].instructions
        if word == "ARG" and rest.startswith(f"{name}=")
    ]
    return value


@pytest.mark.k(24)
def test_the_base_has_a_tag():
    arguments, _ = read_dockerfile()

    assert re.fullmatch(r"python:3\.11-slim-\w+", arguments["BASE"])


@pytest.mark.k(14, 24)
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_as_a_user_without_rights_and_needs_no_shell(target: str):
    image = Image(target)
    program = "guard-service" if target in GUARDS else "chat-gateway"

    assert image.last("USER") == "10001:10001"
    assert image.command("ENTRYPOINT") == [program]
    assert image.command("CMD") == ["serve"]
    assert image.command("HEALTHCHECK") == [program, "health"]


def test_the_commands_of_the_images_exist():
    assert {"serve", "health"} <= commands_of(guard_app) & commands_of(gateway_app)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_exposes_the_ports_it_listens_on(target: str, monkeypatch: pytest.MonkeyPatch):
    image = Image(target)
    for name, value in image.variables.items():
        if name.startswith(("GUARD_", "GATEWAY_")):  # refuses what is no setting
            monkeypatch.setenv(name, value)
    if target in GUARDS:
        guard = load_guard(ServeSettings)
        ports = {guard.port, guard.metrics_port, guard.health_port}
        host = guard.host
    else:
        gateway = load_gateway()
        ports = {gateway.port, gateway.grpc_port, gateway.metrics_port, gateway.health_port}
        host = gateway.host

    assert image.ports == ports
    assert host == "0.0.0.0"


@pytest.mark.parametrize("target", TARGETS)
def test_weights_are_in_embedded_images_only(target: str):
    copies = [rest for rest in Image(target).all("COPY") if "embedded-model" in rest]

    assert len(copies) == target.endswith("-embedded")


@pytest.mark.parametrize("target", TARGETS)
def test_every_image_holds_its_bill_of_materials(target: str):
    assert any("/usr/share/sbom/" in rest for rest in Image(target).all("COPY"))


def test_versions_are_those_of_the_project():
    assert argument("runtime", "VERSION") == PROJECT["version"]
    pinned = (ROOT / "constraints" / "cpu.txt").read_text("utf-8").strip()
    assert f"torch=={argument('torch', 'TORCH_VERSION')}" == pinned


@pytest.mark.parametrize(("file", "extra"), [("guard.txt", "model"), ("gateway.txt", "gateway")])
def test_the_pins_satisfy_the_project(file: str, extra: str):
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras[extra], *extras["tracing"]]
    pinned = pins(file)

    for each in map(Requirement, wanted):
        if each.name == "torch":
            continue
        version = pinned.get(canonicalize_name(each.name))
        assert version is not None, f"{each} has no pin in {file}: make image-pins"
        assert each.specifier.contains(version), f"{each} is pinned to {version} in {file}"


@pytest.mark.k(24)
@pytest.mark.parametrize("file", ["guard.txt", "gateway.txt", "build.txt"])
def test_pins_are_hashed_and_name_no_place(file: str):
    text = (REQUIREMENTS / file).read_text("utf-8")

    assert text.count("\n    --hash=sha256:") >= len(pins(file)) > 20
    assert re.search(r"://|index|find-links|^nvidia|^triton|^torch=", text, re.MULTILINE) is None


def test_what_both_images_hold_is_the_same():
    guard, gateway = pins("guard.txt"), pins("gateway.txt")

    assert {name: guard[name] for name in guard.keys() & gateway.keys()} == {
        name: gateway[name] for name in guard.keys() & gateway.keys()
    }


def test_the_build_sees_what_it_needs_and_nothing_else():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    _, stages = read_dockerfile()
    sources = {
        source
        for stage in stages.values()
        for word, rest in stage.instructions
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }

    assert ignored[0] == "*"
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert {
        source for source in sources if not any(source.startswith(each) for each in allowed)
    } == set()
