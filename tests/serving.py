"""The real server over a fake engine, on a free port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from guard_service.batcher import Batcher
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.server import GuardServer
from guard_service.health_port import HealthPort
from guard_service.limits import Limits
from guard_service.metrics import Metrics
from guard_service.moderator import Moderator
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from guard_service.v1 import guard_pb2, guard_pb2_grpc
from tests.fakes import FakeEngine

POLICY = default_policy("llama-guard-2")
QUICK = ServerOptions(port=0, lame_duck_seconds=0.0)


@dataclass
class Service:
    """A running server and everything behind it."""

    engine: FakeEngine
    moderator: Moderator
    batcher: Batcher
    metrics: Metrics
    server: GuardServer
    channel: grpc.aio.Channel

    @property
    def stub(self) -> "guard_pb2_grpc.GuardServiceAsyncStub":
        return guard_pb2_grpc.GuardServiceStub(self.channel)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def counted(self, name: str, **labels: str) -> float:
        """A metric's value now."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def composed(
    engine: FakeEngine,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    max_batch_tokens: int = 1024,
    max_queue_items: int = 1024,
) -> tuple[Moderator, Batcher, Metrics]:
    """A moderator by the shipped Llama Guard 2 policy, its batcher, and their metrics."""
    metrics = Metrics(category.code for category in POLICY.categories)
    batcher = Batcher(
        engine,
        max_batch_tokens=max_batch_tokens,
        max_queue_items=max_queue_items,
        max_queue_tokens=65_536,
        observer=metrics,
    )
    moderator = Moderator(
        engine=engine,
        prompt_format=FORMATS[POLICY.prompt_format],
        policies={POLICY.id: POLICY},
        default_policy_id=POLICY.id,
        batcher=batcher,
        limits=limits,
        observer=metrics,
    )
    return moderator, batcher, metrics


@asynccontextmanager
async def running_server(
    engine: FakeEngine | None = None,
    *,
    options: ServerOptions = QUICK,
    welcome: bool = True,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    max_batch_tokens: int = 1024,
    max_queue_items: int = 1024,
    health_port: HealthPort | None = None,
) -> AsyncIterator[Service]:
    """A server that is ready, unless `welcome` is False, with an empty journal."""
    engine = engine or FakeEngine()
    moderator, batcher, metrics = composed(
        engine, limits=limits, max_batch_tokens=max_batch_tokens, max_queue_items=max_queue_items
    )
    async with GuardServer(moderator, batcher, options, metrics, health_port) as server:
        if welcome:
            await server.welcome()
            engine.journal.clear()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield Service(engine, moderator, batcher, metrics, server, channel)
        finally:
            # A held engine never lets go of its thread, and Python would wait for it.
            engine.release()


def asking(*contents: str, **fields: str) -> guard_pb2.ModerateRequest:
    """A request to judge these contents, by user and assistant in turn."""
    return guard_pb2.ModerateRequest(conversation=conversation(*contents), **fields)


def conversation(*contents: str) -> guard_pb2.Conversation:
    roles = (guard_pb2.ROLE_USER, guard_pb2.ROLE_ASSISTANT)
    return guard_pb2.Conversation(
        messages=[
            guard_pb2.Message(role=roles[i % 2], content=content)
            for i, content in enumerate(contents)
        ]
    )


def opening(content: str = "", **fields: str) -> guard_pb2.ModerateStreamRequest:
    """The first message of a stream whose only message starts with `content`."""
    return guard_pb2.ModerateStreamRequest(
        open=guard_pb2.StreamOpen(conversation=conversation(content), **fields)
    )


def delta(text: str, *, check: bool = False) -> guard_pb2.ModerateStreamRequest:
    """More text of a stream."""
    return guard_pb2.ModerateStreamRequest(delta=guard_pb2.TextDelta(text=text, check=check))


async def sending(
    *requests: guard_pb2.ModerateStreamRequest,
) -> AsyncIterator[guard_pb2.ModerateStreamRequest]:
    """These requests, then the end of the stream."""
    for request in requests:
        yield request


async def failure_of(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """The error a call must end in."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    while not condition():  # noqa: ASYNC110 - not everything has an event
        await asyncio.sleep(0.005)
