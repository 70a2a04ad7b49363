"""A prober as Kubernetes has one: a blocking client of `grpc.health.v1`."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

PATIENCE_SECONDS = 60.0
"""No test may fail because the machine is busy."""


class Prober:
    """Asks one port, from the thread it is called on."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._stub = HealthStub(channel)

    def serves(self, name: str) -> bool:
        """Whether the port says so now."""
        request = HealthCheckRequest(service=name)
        response = self._stub.Check(request, timeout=PATIENCE_SECONDS)
        return response.status == HealthCheckResponse.SERVING

    def all(self) -> dict[str, bool]:
        return {name: self.serves(name) for name in ("live", "ready", "")}

    def hears(self, name: str, *, serving: bool) -> bool:
        """Wait until the port says this."""
        watching = self._stub.Watch(HealthCheckRequest(service=name), timeout=PATIENCE_SECONDS)
        for response in watching:
            if (response.status == HealthCheckResponse.SERVING) is serving:
                watching.cancel()
                return True
        return False


@contextmanager
def probing(port: int) -> Iterator[Prober]:
    """A prober of this port on loopback."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Prober(channel)
