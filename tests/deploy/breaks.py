"""Mistakes people make in manifests, each with the rule that must notice it."""
# ruff: noqa: E501 - the list at the end is a table

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.deploy.manifests import (
    Manifests,
    Object,
    containers_of,
    name_of,
    pod_of,
    server_in,
)


@dataclass(frozen=True)
class Break:
    """A change of a render that makes a rule fail."""

    rule: str
    id: str
    change: Callable[[Manifests], object]
    render: str = "cpu"


def guard(manifests: Manifests) -> Object:
    return manifests.find("Deployment", "guard")


def gateway(manifests: Manifests) -> Object:
    return manifests.find("Deployment", "gateway")


def settings(manifests: Manifests, app: str) -> dict[str, Any]:
    """The ConfigMap of a service's settings, to be changed."""
    return _data(manifests, f"{app}-settings-")


def _data(manifests: Manifests, prefix: str) -> dict[str, Any]:
    [found] = [each for each in manifests.of_kind("ConfigMap") if name_of(each).startswith(prefix)]
    data: dict[str, Any] = found["data"]
    return data


def put(*path: Any, value: Any) -> Callable[[Object], None]:
    """Set a value deep inside an object."""

    def change(target: Any) -> None:
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return change


def in_pod(*path: Any, value: Any) -> Callable[[Manifests], object]:
    return lambda manifests: put(*path, value=value)(pod_of(guard(manifests)))


def in_guard(*path: Any, value: Any) -> Callable[[Manifests], object]:
    return lambda manifests: put(*path, value=value)(server_in(guard(manifests)))


def in_gateway(*path: Any, value: Any) -> Callable[[Manifests], object]:
    return lambda manifests: put(*path, value=value)(server_in(gateway(manifests)))


def in_deployment(*path: Any, value: Any) -> Callable[[Manifests], object]:
    return lambda manifests: put("spec", *path, value=value)(guard(manifests))


def in_object(kind: str, name: str, *path: Any, value: Any) -> Callable[[Manifests], object]:
    return lambda manifests: put(*path, value=value)(manifests.find(kind, name))


def set_to(app: str, **values: str) -> Callable[[Manifests], object]:
    return lambda manifests: settings(manifests, app).update(values)


def without(kind: str, name: str) -> Callable[[Manifests], object]:
    return lambda manifests: manifests.objects.remove(manifests.find(kind, name))


def _add_ingress(manifests: Manifests) -> None:
    policy = manifests.find("NetworkPolicy", "guard")
    policy["spec"]["ingress"].append({"from": [{"namespaceSelector": {}}], "ports": []})


def _no_egress_kind(manifests: Manifests) -> None:
    """The classic: `egress: []` without the policy type allows everything, but for default-deny."""
    manifests.find("NetworkPolicy", "default-deny")["spec"]["policyTypes"] = ["Ingress"]
    manifests.find("NetworkPolicy", "guard")["spec"]["policyTypes"] = ["Ingress"]


def _split_peer(manifests: Manifests) -> None:
    """Another classic: one dash too many makes `and` an `or`."""
    [_, scrape] = manifests.find("NetworkPolicy", "guard")["spec"]["ingress"]
    [peer] = scrape["from"]
    scrape["from"] = [{key: value} for key, value in peer.items()]


def _swap_mounts(manifests: Manifests) -> None:
    for container in containers_of(guard(manifests)):
        for mount in container["volumeMounts"]:
            mount.pop("readOnly", None)


def _no_verification(manifests: Manifests) -> None:
    pod_of(guard(manifests)).pop("initContainers")


def _token_in_guard(manifests: Manifests) -> None:
    reference = {"secretKeyRef": {"name": "huggingface", "key": "token"}}
    server_in(guard(manifests))["env"].append({"name": "HF_TOKEN", "valueFrom": reference})


def _policy(app: str, file: str, old: str, new: str) -> Callable[[Manifests], object]:
    def change(manifests: Manifests) -> None:
        data = _data(manifests, f"{app}-policies-")
        assert old in data[file]
        data[file] = data[file].replace(old, new)

    return change


def _drop_env(name: str) -> Callable[[Manifests], object]:
    def change(manifests: Manifests) -> None:
        container = server_in(guard(manifests))
        container["env"] = [each for each in container["env"] if each["name"] != name]

    return change


def _monitor_port(manifests: Manifests) -> None:
    [endpoint] = manifests.find("PodMonitor", "moderation")["spec"]["podMetricsEndpoints"]
    endpoint["port"] = "http-metrics"


GPU = "nvidia.com/gpu"
_SPREAD = "topologySpreadConstraints"

BREAKS = [
    Break("a_start_has_time", "impatient", in_guard("startupProbe", "failureThreshold", value=1)),
    Break("a_start_has_time", "as on a CPU", in_guard("startupProbe", "failureThreshold", value=30), "gpu"),
    Break("a_start_has_time", "rollout", in_deployment("progressDeadlineSeconds", value=60)),
    Break("probes_ask_the_health_port_by_grpc", "main port", in_guard("livenessProbe", "grpc", "port", value=50051)),
    Break("probes_ask_the_health_port_by_grpc", "http", in_gateway("readinessProbe", value={"httpGet": {"path": "/", "port": 8080}})),
    Break("probes_ask_the_health_port_by_grpc", "setting", set_to("guard", GUARD_HEALTH_PORT="50071")),
    Break("only_readiness_depends_on_others", "misspelt", in_guard("livenessProbe", "grpc", "service", value="liveness")),
    Break("only_readiness_depends_on_others", "guard lost", in_gateway("startupProbe", "grpc", "service", value="ready")),
    Break("only_readiness_depends_on_others", "restarts", in_gateway("livenessProbe", "grpc", "service", value="ready")),
    Break("liveness_is_patient_and_readiness_quick", "hasty", in_guard("livenessProbe", "failureThreshold", value=3)),
    Break("liveness_is_patient_and_readiness_quick", "slow", in_gateway("readinessProbe", "periodSeconds", value=30)),
    Break("liveness_is_patient_and_readiness_quick", "1 s", in_guard("readinessProbe", "timeoutSeconds", value=1)),
    Break("the_grace_period_covers_the_drain", "default grace", in_pod("terminationGracePeriodSeconds", value=30)),
    Break("the_grace_period_covers_the_drain", "longer drain", set_to("gateway", GATEWAY_DRAIN_SECONDS="150")),
    Break("the_grace_period_covers_the_drain", "short lame duck", set_to("guard", GUARD_LAME_DUCK_SECONDS="2")),
    Break("the_grace_period_covers_the_drain", "hook", in_guard("lifecycle", value={"preStop": {"sleep": {"seconds": 5}}})),
    Break("the_drain_covers_the_longest_answer", "answers", set_to("gateway", GATEWAY_REQUEST_TIMEOUT_SECONDS="300")),
    Break("the_drain_covers_the_longest_answer", "guard", set_to("guard", GUARD_DRAIN_SECONDS="35")),
    Break("every_setting_is_one_the_code_accepts", "misspelt", set_to("guard", GUARD_MAX_QUEUE_TOKEN="9")),
    Break("every_setting_is_one_the_code_accepts", "range", set_to("guard", GUARD_MAX_WINDOWS="0")),
    Break("every_setting_is_one_the_code_accepts", "half", set_to("gateway", GATEWAY_GENERATOR="openai")),
    Break("the_policies_are_ones_the_code_accepts", "category", _policy("guard", "house.yaml", "S11]", "S99]")),
    Break("the_policies_are_ones_the_code_accepts", "mode", _policy("gateway", "policies.yaml", "mode: strict", "mode: lax")),
    Break("the_policies_are_ones_the_code_accepts", "default", set_to("guard", GUARD_DEFAULT_POLICY="home")),
    Break("container_ports_are_the_settings_ports", "port", set_to("guard", GUARD_METRICS_PORT="9999")),
    Break("container_ports_are_the_settings_ports", "loopback", set_to("gateway", GATEWAY_HOST="127.0.0.1")),
    Break("the_gateway_goes_round_the_guards_by_name", "virtual", in_object("Service", "guard", "spec", "clusterIP", value="")),
    Break("the_gateway_goes_round_the_guards_by_name", "no dns", set_to("gateway", GATEWAY_GUARD="guard:50051")),
    Break("the_gateway_goes_round_the_guards_by_name", "port 80", in_object("Service", "guard", "spec", "ports", 0, "port", value=80)),
    Break("memory_is_reserved_and_enough", "small", in_guard("resources", value={"requests": {"cpu": "3", "memory": "1Gi"}, "limits": {"cpu": "4", "memory": "1Gi"}})),
    Break("memory_is_reserved_and_enough", "unsure", in_guard("resources", "requests", "memory", value="2Gi")),
    Break("threads_fit_the_processor", "all cores", set_to("guard", GUARD_NUM_THREADS="0")),
    Break("threads_fit_the_processor", "unsure", in_guard("resources", "requests", "cpu", value="500m")),
    Break("servers_never_ask_a_hub", "online", _drop_env("HF_HUB_OFFLINE")),
    Break("servers_never_ask_a_hub", "hub id", lambda m: _data(m, "guard-model-").update(folder="meta-llama/Meta-Llama-Guard-2-8B"), "gpu"),
    Break("selectors_find_their_pods", "label", lambda m: put("spec", "template", "metadata", "labels", "app.kubernetes.io/name", value="guard")(guard(m))),
    Break("selectors_find_their_pods", "service", in_object("Service", "guard", "spec", "selector", value={"app.kubernetes.io/part-of": "moderation"})),
    Break("one_pod_at_a_time_may_be_evicted", "none", without("PodDisruptionBudget", "guard")),
    Break("one_pod_at_a_time_may_be_evicted", "never", in_object("PodDisruptionBudget", "guard", "spec", "maxUnavailable", value=0)),
    Break("one_pod_at_a_time_may_be_evicted", "stuck", lambda m: m.find("PodDisruptionBudget", "guard")["spec"].pop("unhealthyPodEvictionPolicy")),
    Break("two_replicas_at_least", "one", in_deployment("replicas", value=1)),
    Break("two_replicas_at_least", "minimum", in_object("HorizontalPodAutoscaler", "guard", "spec", "minReplicas", value=1), "cpu-hpa"),
    Break("two_replicas_at_least", "two owners", in_deployment("replicas", value=2), "gke"),
    Break("a_new_guard_is_found_before_an_old_one_goes", "at once", in_deployment("minReadySeconds", value=0)),
    Break("a_new_guard_is_found_before_an_old_one_goes", "long connections", set_to("guard", GUARD_MAX_CONNECTION_AGE_SECONDS="300")),
    Break("pods_are_spread_and_rolled_one_by_one", "gap", in_deployment("strategy", "rollingUpdate", "maxUnavailable", value=1)),
    Break("pods_are_spread_and_rolled_one_by_one", "one host", lambda m: pod_of(guard(m))[_SPREAD].pop()),
    Break("autoscalers_follow_exported_metrics", "unknown", in_object("HorizontalPodAutoscaler", "guard", "spec", "metrics", 0, "pods", "metric", "name", value="guard_queue_size"), "cpu-hpa"),
    Break("autoscalers_follow_exported_metrics", "flapping", in_object("HorizontalPodAutoscaler", "guard", "spec", "behavior", "scaleDown", "stabilizationWindowSeconds", value=60), "cpu-hpa"),
    Break("autoscalers_follow_exported_metrics", "fallback", in_object("ScaledObject", "guard", "spec", "fallback", "replicas", value=1), "gke"),
    Break("there_is_one_autoscaler_for_each", "one", without("ScaledObject", "guard"), "gke"),
    Break("a_full_queue_is_worked_off_in_time", "long queue", set_to("guard", GUARD_MAX_QUEUE_TOKENS="65536")),
    Break("a_full_queue_is_worked_off_in_time", "late", in_object("HorizontalPodAutoscaler", "guard", "spec", "metrics", 0, "pods", "target", "averageValue", value="6000"), "cpu-hpa"),
    Break("the_gateway_scales_before_it_refuses", "late", in_object("ScaledObject", "gateway", "spec", "triggers", 0, "metadata", "threshold", value="200"), "gke"),
    Break("a_gpu_is_asked_for_as_a_whole", "limit", in_guard("resources", "limits", GPU, value="2"), "gpu"),
    Break("a_gpu_is_asked_for_as_a_whole", "taint", in_pod("tolerations", value=[]), "gpu"),
    Break("a_gpu_is_asked_for_as_a_whole", "runtime", in_pod("runtimeClassName", value="nvidia")),
    Break("the_device_is_the_one_scheduled", "cpu", set_to("guard", GUARD_DEVICE="cpu"), "gpu"),
    Break("pods_are_restricted", "root", in_pod("securityContext", "runAsUser", value=0)),
    Break("pods_are_restricted", "writable", in_guard("securityContext", "readOnlyRootFilesystem", value=False)),
    Break("pods_are_restricted", "host", in_pod("hostNetwork", value=True)),
    Break("only_bounded_folders_are_written", "unbounded", in_pod("volumes", 0, value={"name": "tmp", "emptyDir": {}})),
    Break("only_bounded_folders_are_written", "node", in_pod("volumes", 0, value={"name": "tmp", "hostPath": {"path": "/tmp"}})),
    Break("the_namespace_enforces_it", "baseline", in_object("Namespace", "moderation", "metadata", "labels", "pod-security.kubernetes.io/enforce", value="baseline")),
    Break("the_namespace_enforces_it", "default", lambda m: m.find("Service", "guard")["metadata"].pop("namespace")),
    Break("nothing_can_talk_to_the_api_server", "token", in_pod("automountServiceAccountToken", value=True)),
    Break("nothing_can_talk_to_the_api_server", "shared", in_pod("serviceAccountName", value="gateway")),
    Break("nothing_can_talk_to_the_api_server", "links", in_pod("enableServiceLinks", value=True)),
    Break("secrets_go_where_they_are_needed", "token", _token_in_guard, "gpu"),
    Break("secrets_go_where_they_are_needed", "in git", lambda m: m.objects.append({"kind": "Secret", "metadata": {"name": "huggingface"}})),
    Break("secrets_go_where_they_are_needed", "settings", set_to("gateway", GATEWAY_UPSTREAM_API_KEY="sk-1")),
    Break("weights_are_verified_and_read_only", "writable", _swap_mounts, "gpu"),
    Break("weights_are_verified_and_read_only", "unverified", _no_verification, "gpu"),
    Break("weights_are_verified_and_read_only", "another folder", lambda m: put("initContainers", 0, "args", 2, value="/models/other")(pod_of(guard(m))), "gpu"),
    Break("images_are_ours_and_pinned", "latest", in_guard("image", value="guard-service:latest")),
    Break("images_are_ours_and_pinned", "another", in_guard("image", value="guard:0.1.0")),
    Break("images_are_ours_and_pinned", "two", in_guard("image", value="guard-service:0.1.0"), "gpu"),
    Break("no_shell_is_needed", "shell", in_guard("command", value=["sh", "-c", "guard-service serve"])),
    Break("no_shell_is_needed", "exec", in_guard("readinessProbe", value={"exec": {"command": ["ls"]}})),
    Break("the_expected_edges_and_no_others", "open", _add_ingress),
    Break("the_expected_edges_and_no_others", "or for and", _split_peer),
    Break("the_expected_edges_and_no_others", "policy type", _no_egress_kind),
    Break("the_expected_edges_and_no_others", "lost edge", without("NetworkPolicy", "gateway")),
    Break("the_expected_edges_and_no_others", "spans", without("NetworkPolicy", "tracing"), "cpu-hpa"),
    Break("policies_are_written_as_they_are_stored", "empty", in_object("NetworkPolicy", "guard", "spec", "egress", value=[])),
    Break("policies_are_written_as_they_are_stored", "protocol", lambda m: m.find("NetworkPolicy", "guard")["spec"]["ingress"][0]["ports"][0].pop("protocol")),
    Break("every_pod_is_denied_by_default", "missing", without("NetworkPolicy", "default-deny")),
    Break("metrics_are_scraped_and_not_published", "published", in_object("Service", "gateway", "spec", "ports", 0, "targetPort", value="metrics")),
    Break("metrics_are_scraped_and_not_published", "port name", _monitor_port, "gke"),
    Break("metrics_are_scraped_and_not_published", "none", set_to("guard", GUARD_METRICS_PORT="none")),
]  # fmt: skip
"""One line each, wide as a table."""
