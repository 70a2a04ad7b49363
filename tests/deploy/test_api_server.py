"""A real API server takes every render and keeps every field. Opt-in: no package has a server.

KUBE_APISERVER=kube-apiserver python -m pytest tests/deploy/test_api_server.py

deploy/kubernetes/README.md says how to build one. Needs etcd (or its path in ETCD), openssl, and
what `make deploy-check` installs. Nothing runs: there are no controllers and no nodes. The figures
are kept in build/api-server.json.
"""

import json
import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from tests.deploy.api_server import ApiServer, api_server
from tests.deploy.applied import NVIDIA, Applied, apply, metadata, path_of, shown, version_of
from tests.deploy.breaks import put
from tests.deploy.manifests import Manifests, Object, labels_of, name_of, pod_of
from tests.deploy.old_servers import ADAPTATIONS, adapted, lost
from tests.deploy.rendering import RENDERS, VALUES
from tests.deploy.test_schemas import BUILT_IN_GROUPS

ROOT = Path(__file__).parents[2]
CASES = [(by, render) for render in RENDERS for by in ("overlay", "chart")]

pytestmark = [
    pytest.mark.opt_in,
    pytest.mark.skipif(
        "KUBE_APISERVER" not in os.environ, reason="KUBE_APISERVER names no program"
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, object]]:
    """What this run showed, kept in build/api-server.json."""
    found: dict[str, object] = {}
    yield found
    file = ROOT / "build" / "api-server.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def applied(
    request, api_programs, renderer, figures, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Applied]:
    """Every render of both tools, each on a server of its own."""
    by, render = request.param
    manifests = renderer.render(render) if by == "overlay" else renderer.template(render)
    with api_server(api_programs, tmp_path_factory.mktemp("server")) as server:
        applied = apply(server, manifests)
        figures["server"] = server.version
        figures[f"{by} {render}"] = {
            "objects": len(manifests.objects),
            "applied": len(applied.shown.objects),
            "kinds not served here": sorted(path_of(each) for each in applied.shown.left_out),
            "adapted": sorted(applied.shown.adaptations),
        }
        yield applied


def test_a_dry_run_stores_nothing(applied: Applied):
    assert applied.stored_by_dry_run == []


def test_every_field_is_kept(applied: Applied):
    for each in applied.shown.objects:
        assert list(lost(each, applied.server.kept(each))) == [], path_of(each)


def test_only_kinds_of_operators_are_left_out(applied: Applied):
    """They need definitions that the operators bring."""
    assert not {each["apiVersion"] for each in applied.shown.left_out} & BUILT_IN_GROUPS
    assert {"Namespace", "Deployment", "PodDisruptionBudget"} <= {
        each["kind"] for each in applied.shown.objects
    }


def test_the_server_warns_of_nothing(applied: Applied):
    """It would of old API versions, and of pods that the namespace's security level forbids."""
    assert applied.warnings == ""


def test_a_second_time_changes_nothing(applied: Applied):
    objects = applied.shown.objects
    before = metadata(applied.server, objects, "resourceVersion")
    finished = applied.server.apply(objects)

    assert finished.returncode == 0, finished.stderr
    assert {line.rpartition(" ")[2] for line in finished.stdout.splitlines()} == {"unchanged"}
    assert metadata(applied.server, objects, "resourceVersion") == before


def test_the_server_merges_it_too(applied: Applied):
    """As Argo CD and Flux apply: entries of lists must be told apart by their keys."""
    finished = applied.server.apply(
        applied.shown.objects, "--server-side", "--force-conflicts", "--dry-run=server"
    )

    assert finished.returncode == 0, finished.stderr


def pod(workload: Object) -> Object:
    """A pod as the workload's controller would make it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(workload),
            "namespace": workload["metadata"]["namespace"],
            "labels": dict(labels_of(workload)),
        },
        "spec": pod_of(workload),
    }


def test_the_pods_are_admitted(applied: Applied):
    """With their service accounts and runtime class, and into the namespace's security level."""
    pods = [pod(each) for each in Manifests(applied.shown.objects).workloads()]
    assert applied.server.apply([NVIDIA]).returncode == 0
    finished = applied.server.kubectl("create", "--filename=-", "--dry-run=server", objects=pods)

    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert len(finished.stdout.splitlines()) == len(pods)


@pytest.fixture(scope="module")
def server(api_programs, renderer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that holds the overlay gpu."""
    with api_server(api_programs, tmp_path_factory.mktemp("server")) as server:
        apply(server, renderer.render("gpu"))
        yield server


def test_nothing_is_adapted_for_nothing(server: ApiServer, renderer):
    objects = [each for render in RENDERS for each in renderer.render(render).objects]
    old = {each.what for each in ADAPTATIONS if version_of(server) < each.since}

    assert adapted(objects, version_of(server))[1] == old


TEMPLATE = ("spec", "template")
GUARD = (*TEMPLATE, "spec", "containers", 0)
MISSPELT = put(*TEMPLATE, "spec", "terminationGracePeriodSecond", value=60)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (MISSPELT, "terminationGracePeriodSecond"),
        (put("spec", "replicas", value="two"), "replicas"),
        (put(*GUARD, "ports", 0, "containerPort", value=70_000), "between 1 and 65535"),
        (put(*GUARD, "volumeMounts", 0, "name", value="temporary"), "Not found"),
        (put(*GUARD, "resources", "requests", "cpu", value="5"), "less than or equal to cpu limit"),
        (put(*TEMPLATE, "metadata", "labels", value={"app": "guard"}), "does not match template"),
        (put(*TEMPLATE, "spec", "serviceAccountName", value="Guard"), "serviceAccountName"),
    ],
)
def test_a_broken_manifest_is_refused(server: ApiServer, renderer, change, problem: str):
    [guard] = deployments(server, renderer.render("gpu"), "guard")
    before = server.kept(guard)
    change(guard)
    finished = server.apply([guard])

    assert finished.returncode != 0
    assert problem in finished.stderr
    assert server.kept(guard) == before


def test_a_field_that_is_dropped_is_noticed(server: ApiServer, renderer):
    [guard] = deployments(server, renderer.render("gpu"), "guard")
    MISSPELT(guard)
    finished = server.apply([guard], "--validate=false")

    assert finished.returncode == 0, finished.stderr
    assert list(lost(guard, server.kept(guard))) == [
        ".spec.template.spec.terminationGracePeriodSecond is gone"
    ]


def deployments(server: ApiServer, manifests: Manifests, *names: str) -> list[Object]:
    given = Manifests(deepcopy(shown(server, manifests).objects))
    return [given.find("Deployment", name) for name in names]


def templates(server: ApiServer, manifests: Manifests) -> dict[str, object]:
    both = deployments(server, manifests, "guard", "gateway")
    return {name_of(each): server.kept(each)["spec"]["template"] for each in both}


JSON_TO_CONSOLE = ("base/settings/guard.env", "FORMAT=json", "FORMAT=console")


@pytest.mark.parametrize("by", ["overlay", "chart"])
def test_a_setting_rolls_the_pods_it_concerns_and_back(
    api_programs, renderer, tmp_path: Path, by: str
):
    if by == "overlay":
        first = renderer.render("gpu")
        second = renderer.changed("gpu", *JSON_TO_CONSOLE, folder=tmp_path)
    else:
        first = renderer.template("gpu")
        second = renderer.chart(*VALUES["gpu"], "guard.settings.GUARD_LOG_FORMAT=console")
    (tmp_path / "server").mkdir()
    with api_server(api_programs, tmp_path / "server") as server:
        apply(server, first)
        before = templates(server, first)
        assert server.apply(shown(server, second).objects).returncode == 0
        after = templates(server, second)
        assert server.apply(shown(server, first).objects).returncode == 0

        assert {name for name in before if before[name] != after[name]} == {"guard"}
        assert templates(server, first) == before


def test_another_list_of_files_waits_until_the_job_is_gone(
    server: ApiServer, renderer, tmp_path: Path
):
    """As the README says: a Job cannot be changed."""
    file = "overlays/gpu/SHA256SUMS"
    changed = renderer.changed("gpu", file, "# Put", "# put", folder=tmp_path)
    second = shown(server, changed).objects
    refused = server.apply(second)
    job = Manifests(second).find("Job", "guard-model-download")
    gone = server.kubectl("delete", "job", name_of(job), "--namespace=moderation")
    taken = server.apply(second)

    assert refused.returncode != 0
    assert "field is immutable" in refused.stderr
    assert gone.returncode == 0, gone.stderr
    assert taken.returncode == 0, taken.stderr
    assert list(lost(job, server.kept(job))) == []
