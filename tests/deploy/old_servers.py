"""What our objects hold that an old server does not know, each with what it is shown instead.

A server as new as `since` gets the object as it is, so a current one gets everything unchanged.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

from tests.deploy.manifests import Object, containers_of, pod_of

WORKLOADS = ("Deployment", "Job")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

Version = tuple[int, int]


@dataclass(frozen=True)
class Adaptation:
    """A change for servers before a version; it says whether the object needed it."""

    since: Version
    what: str
    change: Callable[[Object], bool]


def _grpc_probes(each: Object) -> bool:
    if each["kind"] not in WORKLOADS:
        return False
    probes = [container.get(name, {}) for container in containers_of(each) for name in PROBES]
    by_grpc = [probe for probe in probes if "grpc" in probe]
    for probe in by_grpc:
        probe["tcpSocket"] = {"port": probe.pop("grpc")["port"]}
    return bool(by_grpc)


def _spread_keys(each: Object) -> bool:
    if each["kind"] not in WORKLOADS:
        return False
    spread = pod_of(each).get("topologySpreadConstraints", ())
    return bool([constraint.pop("matchLabelKeys", None) for constraint in spread])


def _unhealthy_evictions(each: Object) -> bool:
    return (
        each["kind"] == "PodDisruptionBudget"
        and each["spec"].pop("unhealthyPodEvictionPolicy", None) is not None
    )


def _time_to_live(each: Object) -> bool:
    return each["kind"] == "Job" and each["spec"].pop("ttlSecondsAfterFinished", None) is not None


def _older(kind: str, current: str, old: str) -> Callable[[Object], bool]:
    def change(each: Object) -> bool:
        concerned: bool = (each["kind"], each["apiVersion"]) == (kind, current)
        if concerned:
            each["apiVersion"] = old
        return concerned

    return change


ADAPTATIONS = (
    Adaptation((1, 24), "gRPC probes: shown as TCP probes of the same port", _grpc_probes),
    Adaptation((1, 27), "matchLabelKeys of topology spread: not shown", _spread_keys),
    Adaptation((1, 27), "unhealthyPodEvictionPolicy: not shown", _unhealthy_evictions),
    Adaptation((1, 21), "ttlSecondsAfterFinished: not shown", _time_to_live),
    Adaptation(
        (1, 21),
        "PodDisruptionBudget: shown as policy/v1beta1",
        _older("PodDisruptionBudget", "policy/v1", "policy/v1beta1"),
    ),
    Adaptation(
        (1, 23),
        "HorizontalPodAutoscaler: shown as autoscaling/v2beta2",
        _older("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v2beta2"),
    ),
)


def adapted(objects: Iterable[Object], version: Version) -> tuple[list[Object], set[str]]:
    """The objects for a server of this version, and what was changed in them."""
    changed = deepcopy(list(objects))
    made = {
        adaptation.what
        for adaptation in ADAPTATIONS
        for each in changed
        if version < adaptation.since and adaptation.change(each)
    }
    return changed, made


def lost(sent: object, stored: object, where: str = "") -> Iterator[str]:
    """Where what is stored says less than what was sent, or something else."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        for name, value in sent.items():
            if name in stored:
                yield from lost(value, stored[name], f"{where}.{name}")
            elif value not in ({}, [], None):
                yield f"{where}.{name} is gone"
    elif isinstance(sent, list) and isinstance(stored, list) and len(sent) == len(stored):
        for number, (value, kept) in enumerate(zip(sent, stored, strict=True)):
            yield from lost(value, kept, f"{where}[{number}]")
    elif sent != stored:
        yield f"{where}: {sent!r} became {stored!r}"
