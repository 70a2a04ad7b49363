"""Model servers on a loopback port: real HTTP, scripted to the byte, well-behaved or not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

EVENTS = "text/event-stream"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; `body` is its JSON, or None without one. Headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Reply:
    """Writes one response, whole or byte by byte."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._chunked = True
        self.gone = False  # a reply that ended the connection

    async def start(
        self, status: int = 200, content_type: str = EVENTS, *, chunked: bool = True, **more: str
    ) -> None:
        """Send the head. Without `chunked` the body ends where the connection does."""
        self._chunked = chunked
        headers = {"content-type": content_type} | {
            name.replace("_", "-"): value for name, value in more.items()
        }
        headers |= {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write(self, data: bytes) -> None:
        """The next bytes of the body."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def event(self, data: Any) -> None:
        """One server-sent event: JSON, or a string as it is."""
        text = data if isinstance(data, str) else json.dumps(data)
        await self.write(f"data: {text}\n\n".encode())

    async def end(self) -> None:
        if self._chunked:
            await self.raw(b"0\r\n\r\n")
        else:
            self.cut()

    def cut(self) -> None:
        """Close the connection here, whatever has been promised."""
        self.gone = True
        self._writer.close()


Script = Callable[[Asked, Reply], Awaitable[None]]


@dataclass(slots=True)
class Upstream:
    """A running model server: where it listens, what it was asked, who left early."""

    base_url: str
    asked: list[Asked] = field(default_factory=list)
    num_connections: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)  # a request has arrived
    left: asyncio.Event = field(default_factory=asyncio.Event)  # a client left mid-answer

    @property
    def chats(self) -> list[Any]:
        """Bodies of the chat completions asked for, in order."""
        return [asked.body for asked in self.asked if asked.path.endswith("/chat/completions")]


@asynccontextmanager
async def running_upstream(script: Script) -> AsyncIterator[Upstream]:
    """Answer every chat completion by `script`; GET /v1/models always names one model."""
    upstream = Upstream("")
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await _serve_connection(script, upstream, reader, writer)
        writer.close()
        connections.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    upstream.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        server.close()
        for connection in list(connections):
            connection.cancel()
        await asyncio.gather(*connections)


async def _serve_connection(
    script: Script, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    reply = Reply(writer)
    while not reply.gone:
        asked = await _read_request(reader)
        upstream.asked.append(asked)
        upstream.reached.set()
        answer = asyncio.ensure_future(_answer(script, asked, reply))
        leaving = asyncio.ensure_future(reader.read(1))  # ends early only if the client leaves
        try:
            await asyncio.wait([answer, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                upstream.left.set()
                return
            await answer
        except ConnectionError:
            upstream.left.set()
            return
        finally:
            for task in (answer, leaving):
                task.cancel()
            await asyncio.wait([answer, leaving])


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(body) if body else None)


async def _answer(script: Script, asked: Asked, reply: Reply) -> None:
    if asked.path.endswith("/chat/completions"):
        await script(asked, reply)
        return
    await reply.start(200, JSON)
    await reply.write(json.dumps({"object": "list", "data": [{"id": "stub"}]}).encode())
    await reply.end()


def chunk(
    content: str | None = None,
    *,
    choice: int = 0,
    finish: str | None = None,
    delta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A chunk as vLLM writes it: some text, or a whole delta, or the end of a choice."""
    spoken = dict(delta or {}) if content is None else {"content": content}
    entry = {"index": choice, "delta": spoken, "logprobs": None, "finish_reason": finish}
    return _envelope([entry])


def tgi_chunk(content: str, *, finish: str | None = None) -> dict[str, Any]:
    """A chunk as TGI's Messages API writes it: the role in every delta."""
    delta = {"role": "assistant", "content": content}
    entry = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _envelope([entry]) | {"system_fingerprint": "3.3.4-native"}


def usage_chunk(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """The chunk without choices that ends a stream asked to include usage."""
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    counts["total_tokens"] = prompt_tokens + completion_tokens
    return _envelope([]) | {"usage": counts}


def _envelope(choices: list[Any]) -> dict[str, Any]:
    created = 1_700_000_000
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion.chunk",
        "created": created,
        "model": "stub",
        "choices": choices,
    }


def telling(events: Sequence[Any]) -> Script:
    """A script that streams these events, then the usual end."""

    async def script(_: Asked, reply: Reply) -> None:
        await reply.start()
        for event in events:
            await reply.event(event)
        await reply.event("[DONE]")
        await reply.end()

    return script


def answering(*pieces: str) -> Script:
    """A script like vLLM: the pieces in every choice asked for, and usage if asked for."""

    async def script(asked: Asked, reply: Reply) -> None:
        choices = range(asked.body.get("n", 1))
        said = [chunk(piece, choice=choice) for piece in pieces for choice in choices]
        ends = [chunk("", choice=choice, finish="stop") for choice in choices]
        wants_usage = (asked.body.get("stream_options") or {}).get("include_usage")
        usage = [usage_chunk(7, len(said))] if wants_usage else []
        await telling([*said, *ends, *usage])(asked, reply)

    return script


def tgi_answering(*pieces: str) -> Script:
    """A script like TGI: one choice whatever was asked, role repeated, the end on the last text."""
    *first, last = pieces
    return telling([*(tgi_chunk(piece) for piece in first), tgi_chunk(last, finish="stop")])


def refusing(status: int, body: Any, content_type: str = JSON, **headers: str) -> Script:
    """A script that answers with an error body."""

    async def script(_: Asked, reply: Reply) -> None:
        await reply.start(status, content_type, chunked=True, **headers)
        await reply.write(body if isinstance(body, bytes) else json.dumps(body).encode())
        await reply.end()

    return script


def openai_error(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """An error body as vLLM and OpenAI write it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def tgi_error(message: str, error_type: str) -> dict[str, Any]:
    """An error body as TGI writes it."""
    return {"error": message, "error_type": error_type}


def in_turn(*scripts: Script) -> Script:
    """Each request gets the next script, and the last one for ever."""
    waiting = list(scripts)

    async def script(asked: Asked, reply: Reply) -> None:
        await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(asked, reply)

    return script


async def silent(_: Asked, __: Reply) -> None:
    """A script that never answers."""
    await asyncio.Event().wait()


async def endless(_: Asked, reply: Reply) -> None:
    """A script that never stops talking."""
    await reply.start()
    while True:
        await reply.event(chunk("and then "))


def stalling(*pieces: str) -> Script:
    """A script that says the pieces and then nothing, keeping the connection."""

    async def script(_: Asked, reply: Reply) -> None:
        await reply.start()
        for piece in pieces:
            await reply.event(chunk(piece))
        await asyncio.Event().wait()

    return script


def cutting(body: bytes, *, chunked: bool = True) -> Script:
    """A script that writes these bytes and closes the connection."""

    async def script(_: Asked, reply: Reply) -> None:
        await reply.start(chunked=chunked)
        await reply.write(body)
        reply.cut()

    return script


def blurting(body: bytes, content_type: str = EVENTS) -> Script:
    """A script that writes these bytes and ends the response properly."""

    async def script(_: Asked, reply: Reply) -> None:
        await reply.start(200, content_type)
        await reply.write(body)
        await reply.end()

    return script
