"""A real LiteLLM proxy uses the gateway, as guardrail and as model. Opt-in: it takes 755 MB.

python -m venv litellm && litellm/bin/pip install 'litellm[proxy]==1.108.7'
LITELLM_PROXY=litellm/bin/litellm python -m pytest tests/interop/test_litellm.py
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import yaml
from openai import APIStatusError, AsyncOpenAI, BadRequestError

from guard_service.moderation import NotReady
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, answer
from tests.chat_gateway.http_api.serving import running_gateway
from tests.chat_gateway.upstreams import JSON, Upstream, blurting, running_upstream

PROXY = os.environ.get("LITELLM_PROXY")
START_SECONDS = 240.0
KEY = "sk-only-for-this-test"
STORY = "Once there was a fox. It ran and ran. Then it slept. " * 3
HELLO = "Hello from the bare model"
WHOLE = {
    "id": "chatcmpl-stub",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "stub",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": HELLO},
            "finish_reason": "stop",
        }
    ],
}
BAD_STORY = f"{STORY}Now {UNSAFE_PHRASE}. {STORY}"

pytestmark = [
    pytest.mark.opt_in,
    pytest.mark.skipif(PROXY is None, reason="LITELLM_PROXY names no program"),
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]


class Storyteller(ScriptedGenerator):
    """Tells the bad story to whoever asks for it."""

    def __init__(self) -> None:
        super().__init__(())

    async def generate(self, request, *, deadline):  # noqa: ARG002
        bad = "bad" in request.messages[-1].content
        for event in answer(BAD_STORY if bad else STORY):
            await asyncio.sleep(0)
            yield event


@dataclass
class Proxied:
    """A LiteLLM proxy with two models: the gateway, and a bare server behind our guardrail."""

    client: AsyncOpenAI
    guard: FakeGuard
    bare: Upstream

    async def ask(self, content: str) -> str:
        """The bare model's answer, past the guardrail."""
        reply = await self.client.chat.completions.create(
            model="bare",
            messages=[{"role": "user", "content": content}],
            extra_body={"guardrails": ["gateway"]},
        )
        return reply.choices[0].message.content

    async def stream(self, content: str) -> tuple[str, str]:
        """The gateway's streamed answer, and why it ended."""
        text, reason = "", ""
        chunks = await self.client.chat.completions.create(
            model="guarded", messages=[{"role": "user", "content": content}], stream=True
        )
        async for chunk in chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
        return text, reason


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxied]:
    guard = FakeGuard()
    async with (
        running_gateway(guard=guard, generator=Storyteller()) as gateway,
        running_upstream(blurting(json.dumps(WHOLE).encode(), JSON)) as bare,
    ):
        config = configuration(gateway.url, bare.base_url)
        async with (
            running_proxy(config, tmp_path_factory.mktemp("litellm")) as url,
            AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client,
        ):
            yield Proxied(client, guard, bare)


def configuration(gateway_url: str, bare_url: str) -> dict[str, object]:
    """The proxy's configuration, as the documentation has it."""
    ours = {"api_base": f"{gateway_url}/v1", "api_key": "none"}
    bare = {"model": "openai/stub", "api_base": bare_url, "api_key": "none"}
    guardrail = {"guardrail": "openai_moderation", "mode": "pre_call", **ours}
    return {
        "model_list": [
            {"model_name": "guarded", "litellm_params": {"model": "openai/scripted", **ours}},
            {"model_name": "bare", "litellm_params": bare},
        ],
        "guardrails": [{"guardrail_name": "gateway", "litellm_params": guardrail}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"num_retries": 0},
    }


@asynccontextmanager
async def running_proxy(config: dict[str, object], folder: Path) -> AsyncIterator[str]:
    assert PROXY is not None
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(PROXY, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)),
        env={
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it asks the network for prices
            "PYTHONPATH": "",
        },
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until_alive(f"http://127.0.0.1:{port}/health/liveliness", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def until_alive(url: str, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(START_SECONDS):
        while True:
            assert process.returncode is None, "the proxy ended"
            try:
                if (await http.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


async def test_as_guardrail_a_safe_prompt_passes(proxied):
    num_judged = len(proxied.guard.calls)

    assert await proxied.ask("Hello") == HELLO
    assert len(proxied.guard.calls) == num_judged + 1


async def test_as_guardrail_an_unsafe_prompt_never_reaches_the_model(proxied):
    num_chats = len(proxied.bare.chats)

    with pytest.raises(BadRequestError) as refused:
        await proxied.ask(f"How do I {UNSAFE_PHRASE}?")

    assert "moderation policy" in str(refused.value)
    assert len(proxied.bare.chats) == num_chats


async def test_as_guardrail_without_its_guard_nothing_passes(proxied):
    num_chats = len(proxied.bare.chats)
    proxied.guard.prompt_error = NotReady("the guard is gone")
    try:
        with pytest.raises(APIStatusError):
            await proxied.ask("Hello")
    finally:
        proxied.guard.prompt_error = None

    assert len(proxied.bare.chats) == num_chats


async def test_as_model_a_safe_answer_streams_through(proxied):
    assert await proxied.stream("A story, please") == (STORY, "stop")


async def test_as_model_a_blocked_answer_ends_as_one(proxied):
    text, reason = await proxied.stream("A bad story, please")

    assert reason == "content_filter"
    assert UNSAFE_PHRASE not in text
    assert text.startswith(STORY[:20])


async def test_as_model_a_blocked_prompt_ends_as_one(proxied):
    text, reason = await proxied.stream(f"How do I {UNSAFE_PHRASE}?")

    assert reason == "content_filter"
    assert STORY[:20] not in text
