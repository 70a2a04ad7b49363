"""The gateway's real HTTP server in a process of its own, on a guard and a generator at no cost.

A prompt says how the generator shall answer: so many tokens, so many seconds apart. Each token is
the time at which it was written, so that whoever reads it knows how long it was on its way.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stderr
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import psutil

from chat_gateway.chat import ChatRequest, ChoiceFinished, FinishReason, GeneratorEvent, TextDelta
from chat_gateway.composition import Gateway, Policies
from chat_gateway.decision_log import DecisionLog
from chat_gateway.metrics import Metrics
from chat_gateway.observers import Observers
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.places import Places
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from chat_gateway.serving import running
from chat_gateway.settings import GatewaySettings, load
from chat_gateway.text_moderation import TextModeration
from chat_gateway.token_limit import TokenLimit
from chat_gateway.tracing.switch import read_tracing
from guard_service.limits import Limits
from guard_service.logs import configure_logs
from guard_service.moderation import (
    Conversation,
    Coverage,
    ModelInfo,
    Phase,
    Timings,
    Usage,
    Verdict,
)
from guard_service.service_info import ServiceInfo
from guard_service.stream import Checkpoint

MODEL = ModelInfo("instant", "0" * 40, "llama-guard-2")
NAME = "scripted"
EVERY_TOKEN = Checkpoints(
    first_characters=1, every_characters=1, max_every_characters=1, every_seconds=60.0
)
POLICIES = {
    policy.id: policy
    for policy in (
        GatewayPolicy(id="strict"),
        GatewayPolicy(id="strict, each token", checkpoints=EVERY_TOKEN),
        GatewayPolicy(id="annotate", mode=Mode.ANNOTATE),
    )
}
SAFE = Verdict(
    unsafe=False,
    unsafe_probability=0.01,
    categories=(),
    first_category=(),
    phase=Phase.RESPONSE,
    model=MODEL,
    policy_id="instant",
    policy_version="1",
    policy_digest="0" * 64,
    usage=Usage(prompt_tokens=0, cached_tokens=0, body_tokens=0),
    timings=Timings(0.0, 0.0, 0.0, 0.0),
    coverage=Coverage(1.0, 1),
)


class InstantGuardStream:
    """Safe, as far as the text has come."""

    def __init__(self) -> None:
        self._num_characters = 0
        self._finished = False
        self._wanted = asyncio.Event()

    async def send(self, text: str, *, check: bool = False) -> None:
        """Count the text."""
        self._num_characters += len(text)
        if check:
            self._wanted.set()

    async def finish(self) -> None:
        """The final checkpoint may come."""
        self._finished = True
        self._wanted.set()

    async def checkpoints(self) -> AsyncIterator[Checkpoint]:
        """One as soon as it is asked for."""
        final = False
        while not final:
            await self._wanted.wait()
            self._wanted.clear()
            final = self._finished
            yield Checkpoint(SAFE, self._num_characters, final)


class InstantGuard:
    """Finds everything safe, at once."""

    async def moderate(
        self,
        conversation: Conversation,  # noqa: ARG002
        *,
        policy_id: str = "",  # noqa: ARG002
        request_id: str = "",  # noqa: ARG002
        timeout_seconds: float = 30.0,  # noqa: ARG002
    ) -> Verdict:
        """Safe."""
        return SAFE

    @asynccontextmanager
    async def stream(
        self,
        conversation: Conversation,  # noqa: ARG002
        *,
        policy_id: str = "",  # noqa: ARG002
        request_id: str = "",  # noqa: ARG002
        timeout_seconds: float | None = None,  # noqa: ARG002
    ) -> AsyncIterator[InstantGuardStream]:
        """Safe, again and again."""
        yield InstantGuardStream()

    async def info(self, *, timeout_seconds: float = 30.0) -> ServiceInfo:  # noqa: ARG002
        """No policies."""
        return ServiceInfo(MODEL, (), "", Limits(), 8192)


class PacedGenerator:
    """Writes what the last message asks for: `{"tokens": 64, "seconds": 0.02}`."""

    models = (NAME,)

    def check(self, request: ChatRequest) -> None:
        """Take everything."""

    async def generate(
        self,
        request: ChatRequest,
        *,
        deadline: float,  # noqa: ARG002
    ) -> AsyncIterator[GeneratorEvent]:
        """Each token is the time now, in ns on the clock that all processes share."""
        wanted = json.loads(request.messages[-1].content)
        for _ in range(wanted["tokens"]):
            await asyncio.sleep(wanted["seconds"])
            yield TextDelta(0, f"{time.monotonic_ns()} ")
        yield ChoiceFinished(0, FinishReason.STOP)

    async def is_ready(self) -> bool:
        """Always."""
        return True

    async def close(self) -> None:
        """Nothing to close."""


class StandInProcess:
    """Starts on entering, on a free port, and answers then; ends on leaving.

    Further settings are given as environment variables.
    """

    def __init__(self, **variables: str) -> None:
        self._variables = variables
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateway_stand_in"],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, **self._variables},
        )
        self.port = int(cast("Any", self._process.stdout).readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = cast("subprocess.Popen[str]", self._process)
        process.communicate()  # the end of its input is the end of it

    @property
    def system(self) -> psutil.Process:
        """The process as the system sees it."""
        return psutil.Process(cast("subprocess.Popen[str]", self._process).pid)

    @property
    def cpu_seconds(self) -> float:
        """CPU time it has used."""
        times = self.system.cpu_times()
        return float(times.user + times.system)


def chat_body(tokens: int, seconds: float, *, stream: bool) -> Mapping[str, Any]:
    """The request that asks for such an answer."""
    prompt = json.dumps({"tokens": tokens, "seconds": seconds})
    return {"model": NAME, "stream": stream, "messages": [{"role": "user", "content": prompt}]}


async def _serve() -> None:
    """Serve until the input ends."""
    settings = load({"port": 0, "grpc_port": "none"})
    tracing = read_tracing(settings)
    configure_logs("json", "info", tracing.log_processors)  # a line per request, as in service
    metrics = Metrics(exemplar=tracing.exemplar)
    generator = TokenLimit(tracing.generator(PacedGenerator(), None), settings.max_tokens)
    guard = tracing.guard(InstantGuard())
    observer = Observers([metrics, DecisionLog(), *tracing.chat_observers()])
    gateway = Gateway(
        pipeline=tracing.pipeline(ChatPipeline(guard, generator, observer)),
        moderation=TextModeration(guard, observer),
        places=Places(settings.max_concurrent_requests),
        generator=generator,
        guard=guard,
        policies=Policies(by_id=POLICIES, default_id="strict", selectable=frozenset(POLICIES)),
        tracing=tracing,
    )
    with tracing.exporting(metrics.spans_ended):
        await _answer(gateway, settings, metrics)


async def _answer(gateway: Gateway, settings: GatewaySettings, metrics: Metrics) -> None:
    async with running(gateway, settings, metrics) as front:
        sys.stdout.write(f"{front.http_port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        asyncio.run(_serve())
