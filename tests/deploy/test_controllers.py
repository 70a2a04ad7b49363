"""Real controllers make the pods of an overlay and roll them. Opt-in, as test_api_server.py.

KUBE_APISERVER=kube-apiserver KUBE_CONTROLLER_MANAGER=kube-controller-manager \\
    python -m pytest tests/deploy/test_controllers.py

There are no nodes, so no pod is ever scheduled, let alone ready.
"""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.deploy.api_server import ApiServer, api_server, controllers
from tests.deploy.applied import NVIDIA, apply, shown, version_of
from tests.deploy.manifests import GATEWAY, GUARD, NAME, Manifests, Object
from tests.deploy.processes import until

NAMED = {"KUBE_APISERVER", "KUBE_CONTROLLER_MANAGER"} <= os.environ.keys()
HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
MADE = {GUARD: 2, GATEWAY: 2, "guard-model-download": 1}

pytestmark = [
    pytest.mark.opt_in,
    pytest.mark.skipif(not NAMED, reason="KUBE_CONTROLLER_MANAGER names no program"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def server(api_programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    manager = os.environ["KUBE_CONTROLLER_MANAGER"]
    with api_server(api_programs, tmp_path_factory.mktemp("server")) as server:
        insecure = ("--port=0",) if version_of(server) < (1, 24) else ()
        with controllers(manager, server, *insecure):
            yield server


def pods(server: ApiServer) -> Counter[str]:
    """How many there are, by application."""
    return Counter(each["metadata"]["labels"][NAME] for each in server.all("pods"))


def replicas(server: ApiServer, app: str) -> dict[str, int]:
    """How many pods each version of an application is to have, by the hash of its template."""
    return {
        each["metadata"]["labels"][HASH]: each["spec"]["replicas"]
        for each in server.all("replicasets")
        if each["metadata"]["labels"][NAME] == app
    }


def newest(server: ApiServer, app: str) -> str:
    """The version of an application that was asked for last."""
    revisions = {
        int(each["metadata"]["annotations"][REVISION]): each["metadata"]["labels"][HASH]
        for each in server.all("replicasets")
        if each["metadata"]["labels"][NAME] == app
    }
    return revisions[max(revisions)]


def budget(server: ApiServer, manifests: Manifests, name: str) -> Object:
    """What the controller says of a disruption budget."""
    found = Manifests(shown(server, manifests).objects).find("PodDisruptionBudget", name)
    status: Object = server.kept(found).get("status", {})
    return status


def test_pods_are_made_counted_and_rolled_without_a_gap(server: ApiServer, renderer, tmp_path):
    first = renderer.render("gpu")
    second = renderer.changed(
        "gpu", "base/settings/guard.env", "FORMAT=json", "FORMAT=console", folder=tmp_path
    )
    assert server.apply([NVIDIA]).returncode == 0
    apply(server, first)
    until(lambda: pods(server) == MADE or None, "every pod is made")
    for name in ("guard", "gateway"):
        until(
            lambda name=name: budget(server, first, name).get("expectedPods") == 2 or None,
            f"the budget of {name} counts its pods",
        )
        assert budget(server, first, name)["desiredHealthy"] == 1
    [old], [gateway] = replicas(server, GUARD), replicas(server, GATEWAY)

    assert server.apply(shown(server, second).objects).returncode == 0
    until(lambda: len(replicas(server, GUARD)) == 2 or None, "the guard's pods are rolled")
    [new] = replicas(server, GUARD).keys() - {old}
    until(lambda: pods(server)[GUARD] == 3 or None, "one pod of the new version is made")
    assert replicas(server, GUARD) == {old: 2, new: 1}
    assert replicas(server, GATEWAY) == {gateway: 2}

    assert server.apply(shown(server, first).objects).returncode == 0
    until(lambda: newest(server, GUARD) == old or None, "the version before is wanted again")
    assert replicas(server, GUARD).keys() == {old, new}
