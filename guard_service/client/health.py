"""Ask a service how it is, as a probe does."""

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from guard_service.moderation import NotReady


def require_serving(target: str, name: str, *, timeout_seconds: float) -> None:
    """Return if `target` (host:port, plaintext) says that `name` is serving.

    Raises:
        NotReady: It says otherwise, or says nothing in time.
    """
    with grpc.insecure_channel(target) as channel:
        try:
            response = _check(channel, name, timeout_seconds)
        except grpc.RpcError as error:
            raise NotReady(f"{target} does not answer health: {error.code().name}") from None
    if response.status != HealthCheckResponse.SERVING:
        said = HealthCheckResponse.ServingStatus.Name(response.status)
        raise NotReady(f"{target} says of '{name}': {said}")


def _check(channel: grpc.Channel, name: str, timeout_seconds: float) -> HealthCheckResponse:
    # The library's own stub has no types.
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    response: HealthCheckResponse = call(HealthCheckRequest(service=name), timeout=timeout_seconds)
    return response


def local_target(host: str, port: int) -> str:
    """Where to ask, on this machine, for a server that listens on these."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound, asked
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
