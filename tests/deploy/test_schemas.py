"""Rendered objects are valid: Kubernetes' own for eight versions, operators' by our schemas."""

import json
import subprocess
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml

from chat_gateway.v1 import chat_pb2
from tests.deploy.breaks import put
from tests.deploy.manifests import Manifests, Object, name_of
from tests.deploy.rendering import RENDERS

SCHEMAS = {path.stem: path for path in (Path(__file__).parent / "schemas").glob("*.json")}
VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
BUILT_IN_GROUPS = {
    "v1",
    "apps/v1",
    "batch/v1",
    "policy/v1",
    "autoscaling/v2",
    "networking.k8s.io/v1",
}


@pytest.fixture(scope="session")
def built_in(renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with the objects of all renders that Kubernetes itself knows."""
    objects = [
        each
        for render in RENDERS
        for each in renderer.render(render).objects
        if each["apiVersion"] in BUILT_IN_GROUPS
    ]
    path = tmp_path_factory.mktemp("schemas") / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return path


def validated(program: str, version: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [program, "--strict", "--quiet", "-k", version, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.k(26)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(tool, built_in: Path, version: str):
    finished = validated(tool("kubernetes-validate"), version, built_in)

    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.k(26)
def test_a_misspelt_field_is_not(tool, renderer, tmp_path: Path):
    guard = deepcopy(renderer.render("cpu").find("Deployment", "guard"))
    put("spec", "template", "spec", "terminationGracePeriodSecond", value=60)(guard)
    (tmp_path / "guard.yaml").write_text(yaml.safe_dump(guard))

    assert validated(tool("kubernetes-validate"), "1.37", tmp_path / "guard.yaml").returncode != 0


def custom(manifests: Manifests) -> list[Object]:
    return [each for each in manifests.objects if each["apiVersion"] not in BUILT_IN_GROUPS]


@pytest.mark.k(11)
@pytest.mark.k(21)
@pytest.mark.k(26)
@pytest.mark.parametrize("render", RENDERS)
def test_objects_of_operators_are_valid(renderer, render: str):
    for each in custom(renderer.render(render)):
        jsonschema.validate(each, json.loads(SCHEMAS[each["kind"]].read_text()))


def test_every_schema_is_needed(renderer):
    kinds = {each["kind"] for render in RENDERS for each in custom(renderer.render(render))}

    assert kinds | {"PrometheusRule"} == SCHEMAS.keys()


def test_a_misspelt_field_of_an_operator_is_found(renderer):
    monitor = deepcopy(renderer.render("gke").find("PodMonitor", "moderation"))
    monitor["spec"]["podMetricsEndpoint"] = monitor["spec"].pop("podMetricsEndpoints")

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(monitor, json.loads(SCHEMAS["PodMonitor"].read_text()))


@pytest.mark.k(11)
@pytest.mark.parametrize("render", ["gke", "cpu-hpa"])
def test_routes_lead_to_ports_of_the_service_and_to_our_api(renderer, render: str):
    manifests = renderer.render(render)
    ports = {
        port["name"]: port["port"] for port in manifests.find("Service", "gateway")["spec"]["ports"]
    }
    wanted = {"HTTPRoute": ports["http"], "GRPCRoute": ports["grpc"]}
    for route in manifests.of_kind(*wanted):
        [rule] = route["spec"]["rules"]
        [backend] = rule["backendRefs"]
        assert (backend["name"], backend["port"]) == ("gateway", wanted[route["kind"]])
    [rule] = manifests.find("GRPCRoute", "gateway")["spec"]["rules"]
    service = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
    assert rule["matches"] == [{"method": {"service": service}}]


def test_no_object_is_there_twice(renderer):
    for render in RENDERS:
        names = [(each["kind"], name_of(each)) for each in renderer.render(render).objects]
        assert len(names) == len(set(names))
