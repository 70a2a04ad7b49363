"""What a pod may do: K14, K15, K17, K18, K24."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from chat_gateway.settings import GatewaySettings
from tests.deploy.dockerfile import read_dockerfile
from tests.deploy.manifests import (
    GATEWAY,
    GUARD,
    Manifests,
    Object,
    app_of,
    arguments_of,
    containers_of,
    name_of,
    pod_of,
    server_in,
)
from tests.deploy.rule import rule
from tests.deploy.settings_of import server_of

ROOT = Path(__file__).parents[2]
SECRET_OF = {"guard-model-download": {"huggingface"}, "gateway": {"gateway-upstream"}}
"""Which workload may know which Secrets."""

TARGETS = {"guard-service": "guard", "chat-gateway": "gateway"}

SECRET_VARIABLES = {
    "HF_TOKEN",
    *(
        f"GATEWAY_{name.upper()}"
        for name, field in GatewaySettings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    ),
}

VARIANTS = {"": "", "-cuda": "", "-embedded": "-embedded"}
"""What follows the version in a tag, and the target's name in deploy/Dockerfile."""


@rule(14)
def pods_are_restricted(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads():
        name, security = name_of(workload), pod_of(workload)["securityContext"]
        if not security.get("runAsNonRoot") or security.get("runAsUser", 0) < 10_000:
            yield f"{name}: may be root, or a user of the node"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: makes any system call"
        for host in ("hostNetwork", "hostPID", "hostIPC"):
            if pod_of(workload).get(host):
                yield f"{name}: {host}"
        for container in containers_of(workload):
            if container["securityContext"] != {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }:
                yield f"{name}: {container['name']} is not confined"


@rule(14)
def only_bounded_folders_are_written(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads():
        name = name_of(workload)
        for volume in pod_of(workload)["volumes"]:
            if "hostPath" in volume:
                yield f"{name}: mounts a folder of the node"
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{name}: {volume['name']} may fill the node's disk"
        for container in containers_of(workload):
            if "/tmp" not in {mount["mountPath"] for mount in container["volumeMounts"]}:
                yield f"{name}: {container['name']} has no /tmp to write to"


@rule(14)
def the_namespace_enforces_it(manifests: Manifests) -> Iterator[str]:
    labels = manifests.find("Namespace", "moderation")["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"the namespace does not {mode} 'restricted'"
    for each in manifests.objects:
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != "moderation":
            yield f"{each['kind']} {name_of(each)} lies in another namespace"


@rule(15)
def nothing_can_talk_to_the_api_server(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads():
        pod = pod_of(workload)
        account = manifests.find("ServiceAccount", pod.get("serviceAccountName", "default"))
        if name_of(account) != name_of(workload):
            yield f"{name_of(workload)}: shares the account {name_of(account)}"
        for each in (pod, account):
            if each.get("automountServiceAccountToken") is not False:
                yield f"{name_of(workload)}: has a token"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name_of(workload)}: gets variables of other services"
    for each in manifests.of_kind("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{each['kind']} {name_of(each)} gives rights"


@rule(18)
def secrets_go_where_they_are_needed(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads():
        foreign = secrets_of(workload) - SECRET_OF.get(name_of(workload), set())
        if foreign:
            yield f"{name_of(workload)}: knows {', '.join(sorted(foreign))}"
    for each in manifests.of_kind("Secret"):
        yield f"Secret {name_of(each)} lies in the repository"
    for each in manifests.of_kind("ConfigMap"):
        for name in sorted(each["data"].keys() & SECRET_VARIABLES):
            yield f"ConfigMap {name_of(each)} holds {name}"


def secrets_of(workload: Object) -> set[str]:
    """Names of the Secrets a pod reads, by volume or variable."""
    names = {
        volume["secret"]["secretName"]
        for volume in pod_of(workload)["volumes"]
        if "secret" in volume
    }
    for container in containers_of(workload):
        for entry in container.get("env", ()):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                names.add(reference["name"])
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                names.add(source["secretRef"]["name"])
    return names


@rule(17)
def weights_are_verified_and_read_only(manifests: Manifests) -> Iterator[str]:
    guard = server_of(GUARD, manifests)
    volumes = {volume["name"]: volume for volume in pod_of(guard)["volumes"]}
    claims = [volume for volume in volumes.values() if "persistentVolumeClaim" in volume]
    for volume in claims:
        if not volume["persistentVolumeClaim"].get("readOnly"):
            yield "the guard may write to the volume of its weights"
        for container in containers_of(guard):
            for mount in container["volumeMounts"]:
                if mount["name"] == volume["name"] and not mount.get("readOnly"):
                    yield f"{container['name']} may write to the volume of the weights"
    if not claims:
        return
    [verify] = pod_of(guard).get("initContainers") or [None]
    if verify is None:
        yield "nothing verifies the weights before they are loaded"
        return
    [download] = pod_of(manifests.find("Job", "guard-model-download"))["containers"]
    job, check = arguments_of(download, manifests), arguments_of(verify, manifests)
    folder = job[job.index("--into") + 1]
    if check[:3] != ["models", "verify", folder]:
        yield f"the guard verifies {check[2]}, the Job fills {folder}"
    if check[check.index("--manifest") + 1] != job[job.index("--manifest") + 1]:
        yield "the guard verifies by another list than the Job"


@rule(24)
def images_are_ours_and_pinned(manifests: Manifests) -> Iterator[str]:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    wanted = {GUARD: "guard-service", GATEWAY: "chat-gateway", "guard-model-download": GUARD}
    _, stages = read_dockerfile()
    for workload in manifests.workloads():
        for container in containers_of(workload):
            image, _, tag = container["image"].partition(":")
            if image != wanted[app_of(workload)]:
                yield f"{name_of(workload)}: runs {image}"
                continue
            variant = tag.removeprefix(version)
            if variant not in VARIANTS:
                yield f"{name_of(workload)}: runs {tag}, not a variant of {version}"
            elif f"{TARGETS[image]}{VARIANTS[variant]}" not in stages:
                yield f"{name_of(workload)}: no target of the Dockerfile makes {tag}"
    models = {
        container["image"]
        for workload in manifests.workloads()
        for container in containers_of(workload)
        if app_of(workload) != GATEWAY
    }
    if len(models) > 1:
        yield f"the guard's weights are checked by another image: {sorted(models)}"


@rule(24)
def no_shell_is_needed(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads():
        for container in containers_of(workload):
            if "command" in container:
                yield f"{name_of(workload)}: replaces the image's own entry point"
            words = " ".join(container.get("args", ()))
            if re.search(r"\b(sh|bash)\b|[|;&]", words):
                yield f"{name_of(workload)}: {words}"
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "exec" in server_in(workload).get(kind, {}):
                yield f"{name_of(workload)}: {kind} starts a program"
