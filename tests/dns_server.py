"""A name server on loopback that answers what a test says, and may change its mind."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

ADDRESS = 1
"""The type of a question for IPv4 addresses."""


@dataclass
class Names(asyncio.DatagramProtocol):
    """Every name has the same `addresses`. Answers may be kept for no time at all."""

    addresses: Sequence[str]
    port: int = 0
    num_questions: int = 0
    _transport: Any = field(default=None, init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\x00", 12) + 5
        question = data[12:end]
        [kind] = struct.unpack(">H", question[-4:-2])
        addresses = self.addresses if kind == ADDRESS else ()
        self.num_questions += kind == ADDRESS
        head = data[:2] + struct.pack(">HHHHH", 0x8580, 1, len(addresses), 0, 0)
        records = b"".join(
            struct.pack(">HHHIH", 0xC00C, ADDRESS, 1, 0, 4) + socket.inet_aton(address)
            for address in addresses
        )
        self._transport.sendto(head + question + records, addr)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[Names]:
    names = Names(addresses)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: names, local_addr=("127.0.0.1", 0)
    )
    names.port = transport.get_extra_info("sockname")[1]
    try:
        yield names
    finally:
        transport.close()
