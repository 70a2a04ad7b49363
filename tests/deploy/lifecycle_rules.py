"""Start, probes and end of a pod: K1, K3 to K6, K8 and K10."""

import json
from collections.abc import Iterator
from pathlib import Path

from chat_gateway.settings import GatewaySettings
from guard_service.health_port import LIVE, READY
from guard_service.settings import ServeSettings
from tests.deploy.manifests import (
    GUARD,
    Manifests,
    Object,
    app_of,
    name_of,
    pod_of,
    server_in,
)
from tests.deploy.rule import rule
from tests.deploy.settings_of import gateway_settings, guard_settings, settings_of

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

SLOWEST_DISK = 50e6
"""Bytes per second that a load of 16 GB may have to live with; assumed, not measured."""

BYTES_OF_8B = 16.1e9

LONGEST_AGE = 1.1
"""gRPC ends a connection at its age, give or take 10 %."""

DISCOVERY_SECONDS = 10
"""For a name server's cache, for Envoy's look at the name every 5 s, and for connecting."""


def measured_start_seconds() -> float:
    """The slowest start to readiness of the embedded guard, by benchmarks/time_to_ready.py."""
    report = json.loads((RESULTS / "time_to_ready.json").read_text(encoding="utf-8"))
    return max(float(row["seconds"]) for row in report["rows"])


def probe_of(server: Object, kind: str) -> Object:
    probe: Object = server_in(server)[f"{kind}Probe"]
    return probe


@rule(1)
def a_start_has_time(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        probe = probe_of(server, "startup")
        budget = probe["failureThreshold"] * probe["periodSeconds"]
        needed = 2 * measured_start_seconds()
        if "nvidia.com/gpu" in server_in(server)["resources"]["limits"]:
            needed = 2 * BYTES_OF_8B / SLOWEST_DISK
        if budget < needed:
            yield f"{name_of(server)}: {budget} s to start, {needed:.0f} s may be needed"
        settling = server["spec"].get("minReadySeconds", 0)
        if server["spec"]["progressDeadlineSeconds"] < budget + settling + 60:
            yield f"{name_of(server)}: the rollout is given up before the start is"


@rule(3)
def probes_ask_the_health_port_by_grpc(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        settings = settings_of(server, manifests)
        if settings.health_port in (None, settings.port, settings.metrics_port):
            yield f"{name_of(server)}: health has no port of its own"
        for kind in ("startup", "liveness", "readiness"):
            grpc = probe_of(server, kind).get("grpc", {})
            if grpc.get("port") != settings.health_port:
                yield f"{name_of(server)}: {kind} asks port {grpc.get('port')}"


@rule(4)
def only_readiness_depends_on_others(manifests: Manifests) -> Iterator[str]:
    """The guard's start waits for its own model; the gateway's must wait for nobody."""
    for server in manifests.servers():
        wanted = {
            "startup": READY if app_of(server) == GUARD else LIVE,
            "liveness": LIVE,
            "readiness": READY,
        }
        for kind, service in wanted.items():
            asked = probe_of(server, kind).get("grpc", {}).get("service")
            if asked != service:
                yield f"{name_of(server)}: {kind} asks for '{asked}', not '{service}'"


@rule(5)
def liveness_is_patient_and_readiness_quick(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        live, ready = probe_of(server, "liveness"), probe_of(server, "readiness")
        if live["periodSeconds"] < 10 or live["failureThreshold"] < 6:
            yield f"{name_of(server)}: liveness is hasty"
        if not 2 <= ready["periodSeconds"] <= 5 or ready["failureThreshold"] != 2:
            yield f"{name_of(server)}: readiness is slow or nervous"
        for probe in (live, ready):
            if not 2 <= probe["timeoutSeconds"] <= probe["periodSeconds"]:
                yield f"{name_of(server)}: a probe's timeout does not fit its period"


@rule(6)
def the_grace_period_covers_the_drain(manifests: Manifests) -> Iterator[str]:
    for server in manifests.servers():
        settings = settings_of(server, manifests)
        needed = settings.lame_duck_seconds + settings.drain_seconds + 5
        grace = pod_of(server)["terminationGracePeriodSeconds"]
        if grace <= needed:
            yield f"{name_of(server)}: killed after {grace} s, needs more than {needed:g} s"
        if "lifecycle" in server_in(server):
            yield f"{name_of(server)}: a hook runs before the lame duck, which is the hook"
        ready = probe_of(server, "readiness")
        if settings.lame_duck_seconds < ready["periodSeconds"] * ready["failureThreshold"]:
            yield f"{name_of(server)}: refuses before readiness could be seen to fail"


@rule(8, 10)
def a_new_guard_is_found_before_an_old_one_goes(manifests: Manifests) -> Iterator[str]:
    """A client looks at the name again when a connection ends, and then needs time to connect."""
    guard = guard_settings(manifests)
    found = LONGEST_AGE * guard.max_connection_age_seconds + DISCOVERY_SECONDS
    for server in manifests.servers():
        waited = server["spec"].get("minReadySeconds", 0)
        if app_of(server) == GUARD and waited < found:
            yield f"{name_of(server)}: a rollout goes on after {waited} s, clients need {found:g} s"


@rule(6)
def the_drain_covers_the_longest_answer(manifests: Manifests) -> Iterator[str]:
    """The guard's streams last as long as the gateway's answers."""
    guard: ServeSettings = guard_settings(manifests)
    gateway: GatewaySettings = gateway_settings(manifests)
    longest = gateway.request_timeout_seconds
    if gateway.drain_seconds < longest:
        yield f"gateway drains for {gateway.drain_seconds:g} s, answers take {longest:g} s"
    if guard.drain_seconds < max(longest, guard.max_wait_seconds):
        yield f"guard drains for {guard.drain_seconds:g} s, its streams take {longest:g} s"
