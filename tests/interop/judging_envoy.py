"""Client, Envoy, the ext_proc process, a guard and a model's server: all real but the last two,
whose words are scripted."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncOpenAI

from tests.chat_gateway.upstreams import Asked, Reply, Script, Upstream, answering, running_upstream
from tests.fakes import FakeEngine
from tests.interop.envoy import READY_SECONDS, Envoy, configuration, running_envoy
from tests.serving import Service, running_server

CONFIG = "ext-proc.yaml"
PATIENCE = 120.0
CANARY = "canary-4711"
"""Stands in every text that must not reach a client."""


@dataclass(slots=True)
class Switch:
    """A script that can be exchanged while the server runs."""

    script: Script = field(default_factory=lambda: answering("Hello."))

    async def __call__(self, asked: Asked, reply: Reply) -> None:
        await self.script(asked, reply)


class Tap(httpx.AsyncBaseTransport):
    """A transport that keeps every byte the client was sent, headers too."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        self.received += repr(response.headers.raw).encode()
        response.stream = _Tapped(response.stream, self.received)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Tapped(httpx.AsyncByteStream):
    def __init__(self, inner: Any, received: bytearray) -> None:
        self._inner = inner
        self._received = received

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            self._received += piece
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass(slots=True)
class Judged:
    """Everything that runs, and clients of it."""

    envoy: Envoy
    processor: "Processor"
    guard: Service
    upstream: Upstream
    switch: Switch
    tap: Tap
    http: httpx.AsyncClient
    openai: AsyncOpenAI

    async def chat(self, prompt: str = "Hello", **fields: Any) -> Any:
        """What the `openai` client makes of a chat."""
        messages = [{"role": "user", "content": prompt}]
        return await self.openai.chat.completions.create(model="stub", messages=messages, **fields)


@dataclass(slots=True)
class Processor:
    """The ext_proc process; `exited` waits for its exit status."""

    process: asyncio.subprocess.Process
    port: int
    log: list[str]

    async def exited(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def running_processor(guard: str, *flags: str) -> AsyncIterator[Processor]:
    """`chat-gateway ext-proc` in a process of its own, once it listens; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chat_gateway", "ext-proc", "--log-format", "json"),
        *("--ext-proc-port", "0", "--metrics-port", "0", "--lame-duck-seconds", "0"),
        *("--guard", guard, *flags),
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ},
    )
    log: list[str] = []
    try:
        async with asyncio.timeout(READY_SECONDS):
            port = await _port(process, log)
        reading = asyncio.create_task(_read(process, log))
        yield Processor(process, port, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await reading


async def _port(process: asyncio.subprocess.Process, log: list[str]) -> int:
    assert process.stderr is not None
    async for line in process.stderr:
        log.append(line.decode())
        entry = json.loads(line) if line.startswith(b"{") else {}
        if entry.get("event") == "listening":
            return entry["grpc_port"]
    raise AssertionError("".join(log))


async def _read(process: asyncio.subprocess.Process, log: list[str]) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        log.append(line.decode())  # noqa: PERF401 - it is looked at while it grows


@asynccontextmanager
async def in_front_of(
    program: str, folder: Path, endpoints: Mapping[str, int], **changes: Any
) -> AsyncIterator[tuple[Envoy, Tap, httpx.AsyncClient]]:
    """Envoy before these ports, its ext_proc filter changed so, and a client with a tap."""
    config = configuration(CONFIG, endpoints)
    filter_of(config).update(changes)
    tap = Tap()
    async with running_envoy(program, config, folder) as envoy:
        await processor_found(envoy)
        async with httpx.AsyncClient(base_url=envoy.url, transport=tap, timeout=PATIENCE) as http:
            yield envoy, tap, http


def filter_of(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the ext_proc filter."""
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    return chain["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]


async def processor_found(envoy: Envoy) -> None:
    """Wait until Envoy has checked a processor's health, whatever it found."""
    await envoy.until("cluster.ext-proc.health_check.attempt")


async def processor_healthy(envoy: Envoy) -> None:
    """Wait until Envoy takes the processor for ready."""
    await envoy.until("cluster.ext-proc.membership_healthy")


@asynccontextmanager
async def judging(program: str, folder: Path, *flags: str, **changes: Any) -> AsyncIterator[Judged]:
    """Everything, running and ready."""
    switch, engine = Switch(), FakeEngine()
    async with (
        running_upstream(switch) as upstream,
        running_server(engine) as guard,
        running_processor(guard.target, *flags) as processor,
    ):
        model = httpx.URL(upstream.base_url).port
        assert model is not None
        ports = {"ext-proc": processor.port, "model": model}
        async with in_front_of(program, folder, ports, **changes) as (envoy, tap, http):
            await processor_healthy(envoy)
            openai = AsyncOpenAI(
                base_url=f"{envoy.url}/v1", api_key="sk-own", max_retries=0, http_client=http
            )
            yield Judged(envoy, processor, guard, upstream, switch, tap, http, openai)
