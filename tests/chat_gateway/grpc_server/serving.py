"""A real gRPC server over the pipeline and the fakes at its seams, and a real stub."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from chat_gateway.generators.protocol import Generator
from chat_gateway.grpc_server.options import GrpcOptions
from chat_gateway.grpc_server.server import ChatServer
from chat_gateway.grpc_server.servicer import ChatServicer
from chat_gateway.guard import Guard
from chat_gateway.metrics import Metrics
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.places import Places
from chat_gateway.policy import GatewayPolicy
from chat_gateway.v1 import chat_pb2, chat_pb2_grpc
from guard_service.v1 import guard_pb2

STRICT = GatewayPolicy()


@dataclass(frozen=True, slots=True)
class Running:
    stub: chat_pb2_grpc.ChatServiceStub
    channel: grpc.aio.Channel
    server: ChatServer
    metrics: Metrics

    def counted(self, method: str, code: str) -> float:
        labels = {"method": method, "code": code}
        return self.metrics.registry.get_sample_value("gateway_rpcs_total", labels) or 0.0


@asynccontextmanager
async def running(
    guard: Guard,
    generator: Generator,
    *,
    policies: Mapping[str, GatewayPolicy] | None = None,
    default: GatewayPolicy = STRICT,
    pipeline: ChatPipeline | None = None,
    places: Places | None = None,
    **options: float,
) -> AsyncIterator[Running]:
    metrics = Metrics()
    places = places or Places(256)
    pipeline = pipeline or ChatPipeline(guard, generator, metrics)
    listening = GrpcOptions(port=0, **options)
    servicer = ChatServicer(pipeline, generator, policies or {}, default, listening, places=places)
    async with (
        ChatServer(servicer, listening, metrics) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Running(chat_pb2_grpc.ChatServiceStub(channel), channel, server, metrics)


def prompt(text: str = "Hello", **fields: object) -> chat_pb2.Prompt:
    message = chat_pb2.Message(role=guard_pb2.ROLE_USER, content=text)
    return chat_pb2.Prompt(messages=[message], **fields)


def asking(text: str = "Hello", *, request_id: str = "", **fields: object) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(prompt=prompt(text, **fields), request_id=request_id)


def asking_stream(
    text: str = "Hello", *, request_id: str = "", **fields: object
) -> chat_pb2.ChatStreamRequest:
    return chat_pb2.ChatStreamRequest(prompt=prompt(text, **fields), request_id=request_id)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something on the other side of the wire."""
    while not condition():  # noqa: ASYNC110 - the fakes have no events to wait for
        await asyncio.sleep(0.01)
