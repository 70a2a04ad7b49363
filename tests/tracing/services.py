"""Guard and gateway as they are composed in service, on a fake engine and a scripted upstream."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from chat_gateway import composition as gateway_composition
from chat_gateway.metrics import Metrics as GatewayMetrics
from chat_gateway.serving import Front, running
from chat_gateway.settings import load as load_gateway
from chat_gateway.tracing.switch import read_tracing as read_gateway_tracing
from guard_service import composition as guard_composition
from guard_service.grpc_server.interceptor import JUDGING
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.server import GuardServer
from guard_service.metrics import Metrics as GuardMetrics
from guard_service.observers import Observers
from guard_service.settings import ServeSettings
from guard_service.settings import load as load_guard
from guard_service.tracing.switch import read_tracing as read_guard_tracing
from tests.chat_gateway.upstreams import Script, Upstream, chunk, running_upstream, telling
from tests.fakes import FakeEngine

CHAT = "/v1/chat/completions"
MODERATE = "guard_service.v1.GuardService/Moderate"
STREAM = "guard_service.v1.GuardService/ModerateStream"
STORY = "Once there was a fox. It ran and ran. Then it slept. " * 8


def saying(text: str, piece: int = 16) -> Script:
    """An upstream that streams this text."""
    parts = [text[i : i + piece] for i in range(0, len(text), piece)]
    return telling([*(chunk(part) for part in parts), chunk(finish="stop")])


@dataclass
class Caller:
    """A W3C trace context that a test calls with."""

    sampled: bool = True
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


@dataclass
class Guard:
    engine: FakeEngine
    server: GuardServer
    metrics: GuardMetrics

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@dataclass
class Services:
    """Both services, running; `http` calls the gateway."""

    guard: Guard
    front: Front
    metrics: GatewayMetrics
    upstream: Upstream
    http: httpx.AsyncClient

    async def chat(
        self, content: str = "Tell me a story", caller: Caller | None = None, **fields: object
    ) -> httpx.Response:
        headers = {"traceparent": caller.traceparent} if caller else {}
        messages = [{"role": "user", "content": content}]
        body = {"model": "stub", "messages": messages, **fields}
        return await self.http.post(CHAT, json=body, headers=headers)


def _tracing_flags(endpoint: str | None, ratio: float) -> dict[str, object]:
    return {"otlp_endpoint": endpoint, "trace_sample_ratio": ratio} if endpoint else {}


@asynccontextmanager
async def running_guard(
    endpoint: str | None, *, ratio: float = 1.0, engine: FakeEngine | None = None
) -> AsyncIterator[Guard]:
    settings = load_guard(ServeSettings, _tracing_flags(endpoint, ratio))
    tracing = read_guard_tracing(settings)
    policies = guard_composition.read_policies(settings)
    codes = (category.code for policy in policies.values() for category in policy.categories)
    metrics = GuardMetrics(codes, exemplar=tracing.exemplar)
    engine = engine or FakeEngine()
    observer = Observers([metrics, *tracing.guard_observers()])
    moderator, batcher = guard_composition.compose(engine, settings, policies, observer)
    options, interceptors = ServerOptions(port=0), tracing.interceptors(JUDGING)
    with tracing.exporting(metrics.spans_ended):
        async with GuardServer(
            moderator, batcher, options, metrics, interceptors=interceptors
        ) as server:
            await server.welcome()
            try:
                yield Guard(engine, server, metrics)
            finally:
                engine.release()


@asynccontextmanager
async def running_services(
    endpoint: str | None,
    script: Script | None = None,
    *,
    ratio: float = 1.0,
    engine: FakeEngine | None = None,
    **flags: object,
) -> AsyncIterator[Services]:
    async with (
        running_upstream(script or saying(STORY)) as upstream,
        running_guard(endpoint, ratio=ratio, engine=engine) as guard,
    ):
        settings = load_gateway(
            {
                "port": 0,
                "grpc_port": 0,
                "guard": guard.target,
                "generator": "openai",
                "upstream_url": upstream.base_url,
                "upstream_models": "stub",
                **_tracing_flags(endpoint, ratio),
                **flags,
            }
        )
        tracing = read_gateway_tracing(settings)
        metrics = GatewayMetrics(exemplar=tracing.exemplar)
        policies = gateway_composition.read_policies(settings)
        generator = gateway_composition.load_generator(settings, tracing)
        with (
            tracing.exporting(metrics.spans_ended),
            gateway_composition.audit_trail(settings, metrics, tracing) as trail,
        ):
            async with (
                gateway_composition.composed(
                    settings, policies, generator, metrics, trail, tracing=tracing
                ) as gateway,
                running(gateway, settings, metrics) as front,
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{front.http_port}", timeout=60.0
                ) as http,
            ):
                yield Services(guard, front, metrics, upstream, http)
