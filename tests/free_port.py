"""A port for servers that must have the same one on several addresses."""

import socket
from collections.abc import Sequence


def port_free_on(addresses: Sequence[str]) -> int:
    """A port that can be bound on each of these addresses."""
    for _ in range(20):
        with socket.create_server((addresses[0], 0)) as probe:
            port: int = probe.getsockname()[1]
            try:
                for address in addresses[1:]:
                    socket.create_server((address, port)).close()
            except OSError:
                continue
            return port
    raise AssertionError("no port is free on all addresses")
