"""`guard-service health`: what a container's health check runs."""

import socket

import pytest

from guard_service.client.health import local_target
from guard_service.health_port import HealthPort
from tests.command import run


def test_the_health_port_of_the_settings_is_asked_for_readiness():
    with HealthPort("127.0.0.1", 0, stall_seconds=600) as port:
        mine = {"GUARD_HEALTH_PORT": str(port.port), "GUARD_HOST": "0.0.0.0"}
        loading = run("health", **mine)
        alive = run("health", "--service", "live", **mine)
        port.report(live=True, ready=True)
        ready = run("health", **mine)
        there = run("health", "--target", f"127.0.0.1:{port.port}")

    assert (loading.status, alive.status, ready.status, there.status) == (1, 0, 0, 0)
    assert loading.one_line == f"127.0.0.1:{port.port} says of 'ready': NOT_SERVING"
    assert ready.output == "serving\n"


def test_nobody_there_is_one_line_and_status_1():
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    finished = run("health", GUARD_PORT=str(port))

    assert finished.status == 1
    assert finished.one_line == f"127.0.0.1:{port} does not answer health: UNAVAILABLE"


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("0.0.0.0", "127.0.0.1:1"),
        ("::", "[::1]:1"),
        ("10.0.0.7", "10.0.0.7:1"),
        ("::1", "[::1]:1"),
    ],
)
def test_a_server_on_every_interface_is_asked_on_loopback(host: str, target: str):
    assert local_target(host, 1) == target
