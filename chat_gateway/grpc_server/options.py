"""How the gRPC server listens and what it accepts."""

from dataclasses import dataclass

MAX_METADATA_BYTES = 8192
MAX_RPCS_PER_CONNECTION = 2048
KEEPALIVE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcOptions:
    """Where to listen, and the largest request. Port 0 is any free one.

    `max_chat_seconds` is the longest an answer may take, whatever the caller's deadline is,
    `max_unread_seconds` how long a caller may leave a piece of it unread.
    """

    host: str = "127.0.0.1"
    port: int = 50_052
    reflection: bool = True
    max_message_bytes: int = 1_048_576
    max_messages: int = 100
    max_choices: int = 8
    max_tools: int = 128
    max_stops: int = 4
    max_chat_seconds: float = 300.0
    max_unread_seconds: float = 30.0

    @property
    def transport(self) -> tuple[tuple[str, int], ...]:
        """What gRPC itself is told: bounds on what it reads, pings that find vanished callers."""
        return (
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", MAX_RPCS_PER_CONNECTION),
            ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_SECONDS * 1000 // 3),
        )
