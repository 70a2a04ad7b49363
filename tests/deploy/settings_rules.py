"""Settings and policies are what the code accepts (K25), and fit the pods: K3, K9, K17, K20."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from chat_gateway.settings import GatewaySettings
from guard_service.client.service_config import SERVICE_CONFIG
from guard_service.health_port import READY
from guard_service.moderation import ConfigurationError
from guard_service.settings import ServeSettings
from tests.deploy.manifests import (
    GUARD,
    Manifests,
    app_of,
    environment_of,
    name_of,
    pod_of,
    server_in,
)
from tests.deploy.rule import rule
from tests.deploy.settings_of import gateway_settings, guard_settings, policies_of, settings_of

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
UNITS = {"Mi": 2**20, "Gi": 2**30, "k": 1e3, "m": 1e-3}


def quantity(text: str) -> float:
    """A Kubernetes quantity such as 3Gi, 2k, 500m or 4."""
    number = text.rstrip("".join(UNITS))
    return float(number) * UNITS.get(text.removeprefix(number), 1.0)


@rule(25)
def every_setting_is_one_the_code_accepts(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        try:
            settings_of(server, manifests)
        except ConfigurationError as error:
            yield f"{name_of(server)}: {error}"


@rule(25)
def the_policies_are_ones_the_code_accepts(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        try:
            policies_of(server, manifests)
        except ConfigurationError as error:
            yield f"{name_of(server)}: {error}"


@rule(3, 9, 21)
def container_ports_are_the_settings_ports(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        settings = settings_of(server, manifests)
        grpc_port = settings.port
        wanted = {"metrics": settings.metrics_port, "health": settings.health_port}
        if isinstance(settings, GatewaySettings):
            grpc_port = settings.grpc_port or 0
            wanted["http"] = settings.port
        wanted["grpc"] = grpc_port
        ports = {port["name"]: port["containerPort"] for port in server_in(server)["ports"]}
        if ports != wanted:
            yield f"{name_of(server)}: ports {ports}, the settings say {wanted}"
        if settings.host != "0.0.0.0":
            yield f"{name_of(server)}: listens on {settings.host} only"


@rule(9)
def the_gateway_goes_round_the_guards_by_name(manifests: Manifests) -> Iterator[str]:
    service = manifests.find("Service", "guard")
    if service["spec"].get("clusterIP") != "None":
        yield "the guard's service has one virtual address"
    [port] = service["spec"]["ports"]
    if port["port"] != guard_settings(manifests).port:
        yield "a headless service translates no ports: the service's must be the pod's"
    host = f"{name_of(service)}.{service['metadata']['namespace']}.svc.cluster.local"
    target = gateway_settings(manifests).guard
    if target != f"dns:///{host}:{port['port']}":
        yield f"the gateway asks {target}"
    config = json.loads(SERVICE_CONFIG)
    if config["loadBalancingConfig"] != [{"round_robin": {}}]:
        yield "the client does not go round"
    if config["healthCheckConfig"] != {"serviceName": READY}:
        yield "the client does not ask whether a guard is ready"


@rule(20)
def memory_is_reserved_and_enough(manifests: Manifests) -> Iterator[str]:
    """In host memory: what was measured, and on a CPU the caches as well, should they fill."""
    measured = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))
    peak = float(measured["embedded"]["peak MiB"]) * 2**20
    for server in manifests.servers():
        resources = server_in(server)["resources"]
        limit = resources["limits"]["memory"]
        if resources["requests"]["memory"] != limit:
            yield f"{name_of(server)}: requests another memory than it may use"
        settings = settings_of(server, manifests)
        if isinstance(settings, ServeSettings) and settings.model is None:
            needed = peak + settings.session_cache_bytes + settings.prefix_cache_bytes
            if quantity(limit) < needed:
                yield f"{name_of(server)}: {limit}, {needed / 2**30:.1f} GiB may be needed"
    for workload in manifests.workloads():
        for container in pod_of(workload).get("initContainers", ()):
            resources = container["resources"]
            if resources["requests"]["memory"] != resources["limits"]["memory"]:
                yield f"{name_of(workload)}: {container['name']} is not sure of its memory"


@rule(20)
def threads_fit_the_processor(manifests: Manifests) -> Iterator[str]:
    """One less than the limit: the event loop needs a core, and a throttled thread stops all."""
    for server in manifests.servers():
        settings = settings_of(server, manifests)
        resources = server_in(server)["resources"]
        limit = quantity(resources["limits"]["cpu"])
        if isinstance(settings, GatewaySettings) and settings.generator == "openai":
            continue
        if settings.num_threads != math.ceil(limit) - 1:
            yield f"{name_of(server)}: {settings.num_threads} threads on {limit:g} cores"
        if quantity(resources["requests"]["cpu"]) < settings.num_threads:
            yield f"{name_of(server)}: is not sure of a core for each thread"


@rule(17)
def servers_never_ask_a_hub(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        variables = environment_of(server_in(server), manifests)
        if variables.get("HF_HUB_OFFLINE") != "1":
            yield f"{name_of(server)}: HF_HUB_OFFLINE is not 1"
        settings = settings_of(server, manifests)
        if app_of(server) == GUARD and settings.model and settings.is_hub_model:
            yield f"{name_of(server)}: loads {settings.model} from the hub"
