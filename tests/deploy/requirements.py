"""What a deployment must fulfil (K1 to K26), and which tests elsewhere prove a part of it."""

REQUIREMENTS = {
    1: "a start may take twice the measured load time before it is given up",
    2: "three health names: live, ready and the empty one",
    3: "probes are native gRPC, on a plaintext port of their own",
    4: "liveness never depends on an upstream; the gateway's readiness does",
    5: "liveness is patient, readiness quick",
    6: "the grace period outlasts lame duck, drain and 5 s",
    7: "disruption budgets of at most one; two replicas or more",
    8: "spread over zones and hosts; rollouts without a gap",
    9: "a headless service; clients balance, check health and retry",
    10: "connections end in time, so that new pods get load",
    11: "routes of the Gateway API for traffic from outside",
    12: "autoscaling on queue or requests in flight, slow to scale down",
    13: "a full queue is worked off within the longest wait",
    14: "non-root, no privileges, read-only root, bounded /tmp",
    15: "no service account token, accounts of their own, no roles",
    16: "network policies allow the expected edges and no others",
    17: "weights verified, read-only; offline at run time",
    18: "the hub's token is in the download Job only",
    19: "GPU: limit = request, node, toleration, runtime; none without",
    20: "memory request = limit and enough; threads fit the CPU limit",
    21: "metrics on their own port, scraped by a PodMonitor",
    22: "alert rules with burn rates, tested to fire and not to fire",
    23: "a dashboard whose queries name exported metrics",
    24: "images of our targets, pinned; no shell needed",
    25: "a change of settings or policy rolls the pods",
    26: "every object is valid for Kubernetes 1.30 to 1.37",
}

ELSEWHERE = {
    2: ("tests/guard_service/test_health_port.py", "tests/chat_gateway/test_health_port.py"),
    3: ("tests/guard_service/test_health_port.py",),
    4: ("tests/chat_gateway/test_health_port.py",),
    8: ("tests/interop/test_rolling_restart.py",),
    9: ("tests/guard_service/test_client.py",),
    10: ("tests/guard_service/grpc_server/test_connection_age.py",),
    17: (
        "tests/guard_service/weights/test_manifest.py",
        "tests/guard_service/weights/test_download.py",
    ),
    25: ("tests/guard_service/test_policy.py", "tests/guard_service/test_metrics.py"),
}
"""Run by `make test`."""
