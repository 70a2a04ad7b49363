"""The HTTP API on a real socket, over scripted parts."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from openai import AsyncOpenAI

from chat_gateway.chat import ChatEvent, Judged, Unjudged
from chat_gateway.http_api.app import build_app
from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.observer import NullObserver, Observer
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.places import Places
from chat_gateway.policy import GatewayPolicy
from chat_gateway.text_moderation import TextModeration
from guard_service.moderation import Phase
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, answer, verdict

MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "scripted", "messages": MESSAGES}
UNSAFE_PROMPT = [{"role": "user", "content": f"How do I {UNSAFE_PHRASE}?"}]

PROMPT_SAFE = Judged(Phase.PROMPT, verdict(0.01, Phase.PROMPT), None, 5, final=True)
PROMPT_UNJUDGED = Unjudged(Phase.PROMPT, None, "NotReady")


class ScriptedPipeline:
    """Yields its script; a script's event is waited for and its error is raised."""

    def __init__(self, script: Iterable[ChatEvent | asyncio.Event | Exception]) -> None:
        self._script = tuple(script)
        self.calls: list[tuple] = []
        self.tells_held = False
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()

    async def chat(
        self, request, policy, *, request_id, deadline, tells_held
    ) -> AsyncIterator[ChatEvent]:
        self.tells_held = tells_held
        self.calls.append((request, policy, request_id, deadline))
        self.begun.set()
        try:
            for step in self._script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed.set()


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and two kinds of client."""

    url: str
    openai: AsyncOpenAI
    http: httpx.AsyncClient

    async def post(self, path: str = "/v1/chat/completions", **request) -> httpx.Response:
        return await self.http.post(path, **request)

    async def events(self, body: dict, **headers: str) -> list[str]:
        """The data of every server-sent event of a streamed chat."""
        response = await self.post(json={**body, "stream": True}, headers=headers)
        assert response.status_code == 200, response.text
        lines = response.text.split("\n\n")
        assert lines.pop() == ""
        return [line.removeprefix("data: ") for line in lines]


async def streamed(client: AsyncOpenAI, **request) -> list:
    """The chunks of a streamed chat."""
    stream = await client.chat.completions.create(**{**CHAT, **request}, stream=True)
    return [chunk async for chunk in stream]


@asynccontextmanager
async def running_gateway(
    *,
    guard: FakeGuard | None = None,
    generator: ScriptedGenerator | None = None,
    pipeline: ScriptedPipeline | None = None,
    policies: Iterable[GatewayPolicy] = (GatewayPolicy(),),
    selectable: Iterable[str] = (),
    limits: HttpLimits | None = None,
    places: Places | None = None,
    observer: Observer | None = None,
    moderation: TextModeration | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway; the first policy is the default."""
    guard = guard or FakeGuard()
    generator = generator or ScriptedGenerator(answer("Hello! How can I help you today?"))
    observer = observer or NullObserver()
    by_id = {policy.id: policy for policy in policies}
    app = build_app(
        pipeline or ChatPipeline(guard, generator, observer),
        moderation or TextModeration(guard, observer),
        generator,
        guard,
        policies=by_id,
        default_policy_id=next(iter(by_id)),
        selectable=frozenset(selectable),
        limits=limits or HttpLimits(),
        places=places or Places(256),
    )
    async with (
        listening(app) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as http,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as openai,
    ):
        yield Gateway(url, openai, http)


@asynccontextmanager
async def listening(app) -> AsyncIterator[str]:
    """The application behind uvicorn on a free port of the loopback interface."""
    # Only a socket that says it is TCP gets TCP_NODELAY from asyncio.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
