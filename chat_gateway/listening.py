"""Sockets to listen on, and one line about those that cannot be had."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from guard_service.moderation import ConfigurationError

BACKLOG = 2048
"""Connections that may wait to be accepted."""


@contextmanager
def listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket while the context lasts; port 0 is any free one.

    Raises:
        ConfigurationError: One line with the reason.
    """
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # Python adds words of its own to a reason that has a number.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from error
    # Every connection inherits it: otherwise the body of an answer, which follows its head in a
    # packet of its own, waits 40 ms for the client to acknowledge the head. asyncio would set it,
    # but not on a socket that Python made without naming the protocol.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        yield listening


def require_free(host: str, port: int) -> None:
    """Find out whether a server could listen here, before a model takes minutes to load.

    Raises:
        ConfigurationError: One line with the reason.
    """
    with listening_socket(host, port):
        pass
