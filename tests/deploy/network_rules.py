"""Who may talk to whom: the graph that the network policies allow (K16), and scraping (K21)."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from tests.deploy.manifests import (
    GATEWAY,
    GUARD,
    NAME,
    Manifests,
    Object,
    app_of,
    labels_of,
    name_of,
    selects,
)
from tests.deploy.rule import rule
from tests.deploy.settings_of import server_of, settings_of

NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """A pod somewhere, or an address outside."""

    name: str
    namespace: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.1.2.3"


def neighbours() -> list[Peer]:
    """Everyone around that might want something."""
    here = {NAMESPACE: "moderation"}
    other = {NAMESPACE: "team-a"}
    return [
        Peer("stranger", here, {NAME: "stranger"}),
        Peer("other", other, {NAME: "app"}),
        Peer("impostor", other, {NAME: GATEWAY}),
        Peer("client", {**other, "moderation/client": "true"}, {NAME: "app"}),
        Peer("prometheus", {NAMESPACE: "monitoring"}, {NAME: "prometheus"}),
        Peer("exporter", {NAMESPACE: "monitoring"}, {NAME: "exporter"}),
        Peer("dns", {NAMESPACE: "kube-system"}, {"k8s-app": "kube-dns"}),
        Peer("apiserver", address="10.0.0.1"),
        Peer("metadata", address="169.254.169.254"),
        Peer("generator", {NAMESPACE: "inference"}, {NAME: "llm"}),
        Peer("collector", {NAMESPACE: "observability"}, {NAME: "collector"}),
        Peer("internet", address="203.0.113.7"),
        Peer("load-balancer", address="35.191.0.9"),
    ]


PORTS = {
    50051, 50052, 50053, 50061, 50062, 50063, 8080, 9464, 9465, 9466, 53, 443, 80, 8000,
    6443, 4317, 22,
}  # fmt: skip


def edges(manifests: Manifests) -> set[tuple[str, str, int]]:
    """Every (from, to, port) that the policies let pass, at both ends."""
    here = {NAMESPACE: "moderation"}
    ours = [Peer(app_of(workload), here, labels_of(workload)) for workload in manifests.workloads()]
    policies = manifests.of_kind("NetworkPolicy")
    passing = set()
    for source, target in product([*ours, *neighbours()], repeat=2):
        if source is target or not (source in ours or target in ours):
            continue
        for port in PORTS:
            out = source not in ours or _allows(policies, source, target, port, "egress")
            into = target not in ours or _allows(policies, target, source, port, "ingress")
            if out and into:
                passing.add((source.name, target.name, port))
    return passing


def _allows(policies: list[Object], pod: Peer, peer: Peer, port: int, way: str) -> bool:
    mine = [
        policy["spec"]
        for policy in policies
        if selects(policy["spec"]["podSelector"], pod.labels)
        and way.capitalize() in policy["spec"]["policyTypes"]
    ]
    if not mine:
        return True
    side = "to" if way == "egress" else "from"
    return any(
        _matches(clause, side, peer, port) for spec in mine for clause in spec.get(way) or ()
    )


def _matches(clause: Object, side: str, peer: Peer, port: int) -> bool:
    ports = [each["port"] for each in clause.get("ports", ())]
    if ports and port not in ports:
        return False
    return side not in clause or any(_is(each, peer) for each in clause[side])


def _is(description: Object, peer: Peer) -> bool:
    if "ipBlock" in description:
        if peer.labels:
            return False
        block, address = description["ipBlock"], ipaddress.ip_address(peer.address)
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(
            address in ipaddress.ip_network(each) for each in block.get("except", ())
        )
    in_namespace = selects(
        description.get("namespaceSelector", {"matchLabels": {NAMESPACE: "moderation"}}),
        peer.namespace,
    )
    chosen = selects(description.get("podSelector", {}), peer.labels)
    return bool(peer.namespace) and in_namespace and chosen


def expected_edges(manifests: Manifests) -> set[tuple[str, str, int]]:
    """What this installation needs, and not one more."""
    wanted = {
        (GATEWAY, GUARD, 50051),
        (GATEWAY, "dns", 53),
        ("client", GATEWAY, 8080),
        ("client", GATEWAY, 50052),
        ("prometheus", GUARD, 9464),
        ("prometheus", GATEWAY, 9465),
    }
    if manifests.has("Job"):
        wanted |= {
            ("guard-model-download", "dns", 53),
            ("guard-model-download", "internet", 443),
            ("guard-model-download", "load-balancer", 443),
            (GATEWAY, "generator", 8000),
        }
    if settings_of(server_of(GUARD, manifests), manifests).otlp_endpoint:
        wanted |= {(GUARD, "dns", 53), (GUARD, "collector", 4317), (GATEWAY, "collector", 4317)}
    if manifests.has("HealthCheckPolicy"):
        wanted |= {("load-balancer", GATEWAY, 8080), ("load-balancer", GATEWAY, 50052)}
    return wanted


@rule(16)
def the_expected_edges_and_no_others(manifests: Manifests) -> Iterator[str]:
    found, wanted = edges(manifests), expected_edges(manifests)
    for edge in sorted(found - wanted):
        yield f"may pass, and should not: {edge}"
    for edge in sorted(wanted - found):
        yield f"should pass, and may not: {edge}"


@rule(16)
def every_pod_is_denied_by_default(manifests: Manifests) -> Iterator[str]:
    for policy in manifests.of_kind("NetworkPolicy"):
        spec = policy["spec"]
        nothing = not spec.get("ingress") and not spec.get("egress")
        if nothing and spec["podSelector"] == {} and len(spec["policyTypes"]) == 2:
            return
    yield "no policy denies everything in both directions"


@rule(16)
def policies_are_written_as_they_are_stored(manifests: Manifests) -> Iterator[str]:
    """Otherwise every `kubectl apply` of the same files changes them."""
    for policy in manifests.of_kind("NetworkPolicy"):
        for way in ("ingress", "egress"):
            clauses = policy["spec"].get(way)
            if clauses == []:
                yield f"{name_of(policy)}: an empty {way} is dropped; policyTypes says it all"
            for port in [port for clause in clauses or () for port in clause.get("ports", ())]:
                if "protocol" not in port:
                    yield f"{name_of(policy)}: port {port['port']} gets a protocol"


@rule(21)
def metrics_are_scraped_and_not_published(manifests: Manifests) -> Iterator[str]:
    for service in manifests.of_kind("Service"):
        for port in service["spec"]["ports"]:
            if port["targetPort"] in {"metrics", "health", 9464, 9465, 50061, 50062}:
                yield f"Service {name_of(service)} offers {port['targetPort']}"
    monitors = manifests.of_kind("PodMonitor")
    for server in manifests.servers() if monitors else ():
        [spec] = [each["spec"] for each in monitors]
        if not selects(spec["selector"], labels_of(server)):
            yield f"{name_of(server)} is not scraped"
        if [each["port"] for each in spec["podMetricsEndpoints"]] != ["metrics"]:
            yield "the monitor asks another port than metrics"
    for server in manifests.servers():
        if not settings_of(server, manifests).metrics_port:
            yield f"{name_of(server)} exposes no metrics"
