"""An HTTP client that costs next to nothing, so that the server's time is what is measured."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
LENGTH = b"\r\ncontent-length: "


def get(path: str) -> bytes:
    """A request to be sent."""
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def post(path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """A request to be sent."""
    content = json.dumps(body).encode()
    given = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n".encode() + content


class Connection:
    """One connection, for one request after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> AsyncGenerator[bytes, None]:
        """The body of the answer, piece by piece; read it to its end.

        Raises:
            RuntimeError: the status is not 200.
        """
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(head.partition(b"\r\n")[0].decode())
        if CHUNKED not in head.lower():
            yield await self._reader.readexactly(_length(head.lower()))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            piece = await self._reader.readexactly(size + 2)
            yield piece[:-2]
        await self._reader.readexactly(2)


def _length(head: bytes) -> int:
    return int(head.partition(LENGTH)[2].partition(b"\r\n")[0])


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[Connection, None]:
    """A connection to this machine while the context lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()
