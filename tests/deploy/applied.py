"""Renders given to an API server, and what it made of them."""

import re
from dataclasses import dataclass, field

from tests.deploy.api_server import ApiServer
from tests.deploy.manifests import Manifests, Object, name_of
from tests.deploy.old_servers import Version, adapted

NVIDIA: Object = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"},
    "handler": "nvidia",
}
"""As NVIDIA's GPU operator brings it."""


@dataclass(frozen=True)
class Shown:
    """What of a render a server can be given: old ones do not know all of it."""

    objects: list[Object]
    left_out: list[Object] = field(default_factory=list)
    adaptations: set[str] = field(default_factory=set)

    @property
    def namespaces(self) -> list[Object]:
        return [each for each in self.objects if each["kind"] == "Namespace"]

    @property
    def others(self) -> list[Object]:
        return [each for each in self.objects if each["kind"] != "Namespace"]


@dataclass(frozen=True)
class Applied:
    """A render, as a server that held nothing was given it."""

    server: ApiServer
    shown: Shown
    warnings: str
    stored_by_dry_run: list[str]


def path_of(each: Object) -> str:
    return f"{each['kind']}/{name_of(each)}"


def version_of(server: ApiServer) -> Version:
    found = re.match(r"v(\d+)\.(\d+)\.", server.version)
    assert found, server.version
    return int(found[1]), int(found[2])


def shown(server: ApiServer, manifests: Manifests) -> Shown:
    """The objects whose kinds the server serves, as it can understand them."""
    objects, adaptations = adapted(manifests.objects, version_of(server))
    return Shown(
        [each for each in objects if server.serves(each)],
        [each for each in objects if not server.serves(each)],
        adaptations,
    )


def apply(server: ApiServer, manifests: Manifests) -> Applied:
    """The namespace, a dry run of the rest, then everything."""
    given = shown(server, manifests)
    first = server.apply(given.namespaces)
    dry = server.apply(given.others, "--dry-run=server")
    stored = [path_of(each) for each in given.others if server.stored(each)]
    real = server.apply(given.objects)
    for finished in (first, dry, real):
        assert finished.returncode == 0, finished.stderr
    return Applied(server, given, first.stderr + dry.stderr + real.stderr, stored)


def metadata(server: ApiServer, objects: list[Object], entry: str) -> dict[str, object]:
    """One entry of the metadata of each stored object."""
    return {path_of(each): server.kept(each)["metadata"].get(entry) for each in objects}
