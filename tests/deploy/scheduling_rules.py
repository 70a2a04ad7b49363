"""Where pods go and how many there are: K7, K8, K12, K13, K19; selectors match labels."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from chat_gateway.metrics import Metrics as GatewayMetrics
from tests.deploy.manifests import (
    GUARD,
    Manifests,
    Object,
    app_of,
    labels_of,
    name_of,
    pod_of,
    selects,
    server_in,
)
from tests.deploy.rule import rule
from tests.deploy.settings_of import gateway_settings, guard_settings
from tests.deploy.settings_rules import quantity
from tests.fakes import FakeEngine
from tests.serving import composed

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
GPU = "nvidia.com/gpu"

GPU_TOKENS_PER_SECOND = 3000.0
"""Of Llama Guard 2 8B on one GPU of the smallest kind it fits; assumed, not measured."""

FIVE_MINUTES = 300


def cpu_tokens_per_second() -> float:
    """Of the embedded guard on one thread, by benchmarks/verdict_throughput.py."""
    report = json.loads((RESULTS / "verdict_throughput.json").read_text(encoding="utf-8"))
    [row] = [
        row
        for row in report["rows"]
        if (row["variant"], row["policy"], row["concurrency"])
        == ("this engine", "llama-guard-2", 8)
    ]
    [share] = [
        share
        for share in report["shares"]
        if (share["policy"], share["concurrency"]) == ("llama-guard-2", 8)
    ]
    return float(share["new tokens"]) / float(row["seconds"])


def has_gpu(server: Object) -> bool:
    return GPU in server_in(server)["resources"]["limits"]


@cache
def exported_metrics() -> frozenset[str]:
    """Names of the series that real instruments of both services expose."""
    _, batcher, guard = composed(FakeEngine())
    guard.watch_queue(batcher)
    return frozenset(
        sample.name
        for registry in (guard.registry, GatewayMetrics().registry)
        for family in registry.collect()
        for sample in family.samples
    )


@rule(7)
def selectors_find_their_pods(manifests: Manifests) -> Iterator[str]:
    pods = [labels_of(workload) for workload in manifests.workloads()]
    for server in manifests.servers():
        selector = server["spec"]["selector"]
        found = [labels for labels in pods if selects(selector, labels)]
        if found != [labels_of(server)]:
            yield f"Deployment {name_of(server)}: selects {len(found)} kinds of pod"
    for service in manifests.of_kind("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        found = [labels for labels in pods if selects(selector, labels)]
        if len(found) != 1:
            yield f"Service {name_of(service)}: selects {len(found)} kinds of pod"
    for server in manifests.servers():
        for spread in pod_of(server)["topologySpreadConstraints"]:
            if not selects(spread["labelSelector"], labels_of(server)):
                yield f"{name_of(server)}: spreads other pods"


@rule(7)
def one_pod_at_a_time_may_be_evicted(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        budgets = [
            budget
            for budget in manifests.of_kind("PodDisruptionBudget")
            if selects(budget["spec"]["selector"], labels_of(server))
        ]
        if len(budgets) != 1:
            yield f"{name_of(server)}: {len(budgets)} disruption budgets"
            continue
        spec = budgets[0]["spec"]
        if spec.get("maxUnavailable") != 1 or "minAvailable" in spec:
            yield f"{name_of(server)}: the budget is not maxUnavailable 1"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name_of(server)}: a broken pod would keep its node from being drained"


@rule(7)
def two_replicas_at_least(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        autoscaler = manifests.autoscaler_of(server)
        if autoscaler is None:
            replicas = server["spec"].get("replicas", 1)
        else:
            spec = autoscaler["spec"]
            replicas = spec.get("minReplicas") or spec.get("minReplicaCount") or 1
            if "replicas" in server["spec"]:
                yield f"{name_of(server)}: every apply would undo what the autoscaler decided"
        if replicas < 2:
            yield f"{name_of(server)}: {replicas} replica"


@rule(8)
def pods_are_spread_and_rolled_one_by_one(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        spread = {
            each["topologyKey"]: each["whenUnsatisfiable"]
            for each in pod_of(server)["topologySpreadConstraints"]
        }
        if spread != {
            "topology.kubernetes.io/zone": "ScheduleAnyway",
            "kubernetes.io/hostname": "ScheduleAnyway",
        }:
            yield f"{name_of(server)}: spread over {spread}"
        if server["spec"]["strategy"] != {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }:
            yield f"{name_of(server)}: a rollout takes a replica away before it brings one"


def _rules_of(autoscaler: Object) -> tuple[str, Object, float]:
    """Its metric or query, its behaviour, and the target per pod."""
    spec = autoscaler["spec"]
    if autoscaler["kind"] == "HorizontalPodAutoscaler":
        [metric] = spec["metrics"]
        assert metric["type"] == "Pods"
        pods = metric["pods"]
        return pods["metric"]["name"], spec["behavior"], quantity(pods["target"]["averageValue"])
    [trigger] = spec["triggers"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    metadata = trigger["metadata"]
    return metadata["query"], behaviour, float(metadata["threshold"])


@rule(12)
def autoscalers_follow_exported_metrics(manifests: Manifests) -> Iterator[str]:
    wanted = {"guard": "guard_queue_tokens", "gateway": "gateway_requests_in_flight"}
    for autoscaler in manifests.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        query, behaviour, _ = _rules_of(autoscaler)
        metric = wanted[name_of(autoscaler)]
        if metric not in exported_metrics() or metric not in query:
            yield f"{name_of(autoscaler)}: follows {query}"
        if behaviour["scaleDown"]["stabilizationWindowSeconds"] < FIVE_MINUTES:
            yield f"{name_of(autoscaler)}: gives replicas up too soon"
        spec = autoscaler["spec"]
        if autoscaler["kind"] == "ScaledObject" and spec["fallback"]["replicas"] < 2:
            yield f"{name_of(autoscaler)}: falls back to too few replicas"


@rule(12)
def there_is_one_autoscaler_for_each(manifests: Manifests) -> Iterator[str]:
    found = manifests.of_kind("HorizontalPodAutoscaler", "ScaledObject")
    if found and sorted(name_of(each) for each in found) != ["gateway", "guard"]:
        yield f"autoscalers: {[(each['kind'], name_of(each)) for each in found]}"


@rule(13)
def a_full_queue_is_worked_off_in_time(manifests: Manifests) -> Iterator[str]:
    """A new replica comes too late for what waits: what would wait longer must be shed at once."""
    settings = guard_settings(manifests)
    [server] = [each for each in manifests.servers() if app_of(each) == GUARD]
    rate = GPU_TOKENS_PER_SECOND if has_gpu(server) else cpu_tokens_per_second()
    seconds = settings.max_queue_tokens / rate
    if seconds > settings.max_wait_seconds:
        yield f"a full queue takes {seconds:.0f} s, callers wait {settings.max_wait_seconds:g} s"
    autoscaler = manifests.autoscaler_of(server)
    if autoscaler is not None:
        *_, target = _rules_of(autoscaler)
        if target > settings.max_queue_tokens / 4:
            yield f"scaling begins at {target:g} tokens of {settings.max_queue_tokens}"


@rule(13)
def the_gateway_scales_before_it_refuses(manifests: Manifests) -> Iterator[str]:
    limit = gateway_settings(manifests).max_concurrent_requests
    for server in manifests.servers():
        autoscaler = manifests.autoscaler_of(server)
        if autoscaler is not None and app_of(server) != GUARD:
            *_, target = _rules_of(autoscaler)
            if target > limit / 2:
                yield f"scaling begins at {target:g} requests of {limit}"


@rule(19)
def a_gpu_is_asked_for_as_a_whole(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        resources, pod = server_in(server)["resources"], pod_of(server)
        requested, limit = (resources[each].get(GPU) for each in ("requests", "limits"))
        if requested != limit:
            yield f"{name_of(server)}: requests {requested} GPUs, may use {limit}"
        tolerates = any(each.get("key") == GPU for each in pod.get("tolerations", ()))
        chooses = bool(pod.get("nodeSelector"))
        if not tolerates == chooses == has_gpu(server):
            yield f"{name_of(server)}: GPU, toleration and node selector do not go together"
        if "runtimeClassName" in pod and not has_gpu(server):
            yield f"{name_of(server)}: runs like a GPU's pod without one"


@rule(19)
def the_device_is_the_one_scheduled(manifests: Manifests) -> Iterator[str]:
    [server] = [each for each in manifests.servers() if app_of(each) == GUARD]
    device = guard_settings(manifests).device
    if device != ("cuda" if has_gpu(server) else "cpu"):
        yield f"the guard runs on '{device}'"
