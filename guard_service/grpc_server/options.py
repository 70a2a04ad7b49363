"""How the server listens, and how it starts and ends."""

from dataclasses import dataclass

from guard_service.limits import Limits

MAX_METADATA_BYTES = 8192
MAX_RPCS_PER_CONNECTION = 2048
KEEPALIVE_SECONDS = 60
MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where to listen, and for how long to wait for what. Port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 50051
    reflection: bool = True
    lame_duck_seconds: float = 5.0
    drain_seconds: float = 35.0
    stall_seconds: float = 60.0
    stream_idle_seconds: float = 60.0
    max_connection_age_seconds: float = 30.0


def transport_options(
    limits: Limits, *, max_connection_age_seconds: float
) -> tuple[tuple[str, int], ...]:
    """What gRPC itself is told: bounds on what it reads, and pings that find vanished callers.

    A connection that has reached its age, give or take 10 %, takes no new RPCs; those it carries
    go on to their end. Its client connects again, and finds the servers there are by then.
    """
    return (
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes(limits)),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MAX_RPCS_PER_CONNECTION),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_SECONDS * 1000 // 3),
        ("grpc.max_connection_age_ms", round(max_connection_age_seconds * 1000)),
    )


def max_message_bytes(limits: Limits) -> int:
    """Bytes of the largest batch within the limits: its contents, framing of its messages, ids."""
    conversation = limits.max_content_bytes + 16 * limits.max_messages
    return min(limits.max_batch_conversations * conversation + 65_536, MAX_INT32)
