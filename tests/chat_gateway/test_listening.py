"""Sockets to listen on."""

import socket

from chat_gateway.listening import listening_socket


def test_a_connection_sends_small_packets_without_waiting_for_acknowledgements():
    with (
        listening_socket("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
