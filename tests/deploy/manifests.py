"""Kubernetes objects, and the few ways in which the rules look at them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

GUARD = "guard-service"
GATEWAY = "chat-gateway"
NAME = "app.kubernetes.io/name"


@dataclass
class Manifests:
    """The objects of one render."""

    objects: list[Object] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    def find(self, kind: str, name: str) -> Object:
        """The one object of this kind and name."""
        found = [each for each in self.of_kind(kind) if name_of(each) == name]
        assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
        return found[0]

    def has(self, kind: str) -> bool:
        return bool(self.of_kind(kind))

    def workloads(self) -> list[Object]:
        """Everything that has a pod template."""
        return self.of_kind("Deployment", "Job")

    def servers(self) -> list[Object]:
        return self.of_kind("Deployment")

    def config_map(self, reference: str) -> Mapping[str, str]:
        data: Mapping[str, str] = self.find("ConfigMap", reference).get("data", {})
        return data

    def autoscaler_of(self, deployment: Object) -> Object | None:
        for each in self.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
            if each["spec"]["scaleTargetRef"]["name"] == name_of(deployment):
                return each
        return None


def name_of(each: Object) -> str:
    name: str = each["metadata"]["name"]
    return name


def pod_of(workload: Object) -> Object:
    """The pod's specification."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def labels_of(workload: Object) -> Mapping[str, str]:
    """The pod's labels."""
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def app_of(workload: Object) -> str:
    return labels_of(workload)[NAME]


def containers_of(workload: Object) -> Iterator[Object]:
    """All of them, those of the start first."""
    pod = pod_of(workload)
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def server_in(workload: Object) -> Object:
    """The one container that serves."""
    [container] = pod_of(workload)["containers"]
    return container


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    wanted = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in expressions)
    return all(labels.get(key) == value for key, value in wanted) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def environment_of(container: Object, manifests: Manifests) -> dict[str, str]:
    """The variables a container starts with, those from Secrets as `secret`."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        variables.update(manifests.config_map(source["configMapRef"]["name"]))
    for entry in container.get("env", ()):
        variables[entry["name"]] = _value_of(entry, manifests)
    return variables


def _value_of(entry: Object, manifests: Manifests) -> str:
    if "value" in entry:
        assert isinstance(entry["value"], str), f"{entry['name']} is not text"
        return entry["value"]
    source = entry["valueFrom"]
    if "secretKeyRef" in source:
        return "secret"
    reference = source["configMapKeyRef"]
    return manifests.config_map(reference["name"])[reference["key"]]


def arguments_of(container: Object, manifests: Manifests) -> list[str]:
    """The arguments, with $(NAME) replaced as the kubelet does."""
    variables = environment_of(container, manifests)
    return [
        re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], argument)
        for argument in container.get("args", ())
    ]
