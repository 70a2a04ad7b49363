"""Whether an address can be listened on, said before anything slow begins."""

import os
import socket

from guard_service.moderation import ConfigurationError


def require_free(host: str, port: int) -> None:
    """Find out whether a server could listen here; port 0 always can.

    gRPC would not say why it cannot bind, and a model may take minutes to load before it tries.

    Raises:
        ConfigurationError: One line with the reason.
    """
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        # Python adds words of its own to a reason that has a number.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from error
