"""A server that answers whatever it was told to, to see what the client makes of it."""
# ruff: noqa: N802, ARG002 - the contract names the methods and what they are given

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from guard_service.client import GuardClient
from guard_service.v1 import guard_pb2, guard_pb2_grpc


def whole(**changes: Any) -> guard_pb2.Verdict:
    """A sound verdict on the wire, but for these changes; None unsets a field."""
    score = guard_pb2.Category(code="S1", name="Violent Crimes", probability=1.0)
    fields: dict[str, Any] = {
        "unsafe": False,
        "unsafe_probability": 0.1,
        "first_category": [score],
        "phase": guard_pb2.PHASE_PROMPT,
        "model": guard_pb2.Model(id="m"),
        "policy": guard_pb2.PolicyReference(id="p", digest="d"),
        "coverage": guard_pb2.Coverage(share=1.0, num_windows=1),
    }
    kept = {name: value for name, value in (fields | changes).items() if value is not None}
    return guard_pb2.Verdict(**kept)


class ScriptedServicer(guard_pb2_grpc.GuardServiceServicer):
    """Answers what it was told to, as no real server would."""

    def __init__(self, verdict: guard_pb2.Verdict | None = None) -> None:
        self.verdict = verdict
        self.items: list[guard_pb2.ModerateBatchItem] = []
        self.checkpoints: list[guard_pb2.ModerateStreamResponse] = []
        self.code: grpc.StatusCode | None = None

    async def Moderate(self, request: Any, context: Any) -> Any:
        if self.code is not None:
            await context.abort(self.code, "words of a stranger")
        return guard_pb2.ModerateResponse(verdict=self.verdict)

    async def ModerateBatch(self, request: Any, context: Any) -> Any:
        return guard_pb2.ModerateBatchResponse(items=self.items)

    async def ModerateStream(self, request_iterator: Any, context: Any) -> Any:
        async for _ in request_iterator:
            pass
        for checkpoint in self.checkpoints:
            yield checkpoint

    async def GetInfo(self, request: Any, context: Any) -> Any:
        return guard_pb2.GetInfoResponse()


@asynccontextmanager
async def scripted_client(servicer: ScriptedServicer) -> AsyncIterator[GuardClient]:
    """A client of a server without health checks, which is then taken to be healthy."""
    server = grpc.aio.server()
    guard_pb2_grpc.add_GuardServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with GuardClient(f"127.0.0.1:{port}") as client:
        yield client
    await server.stop(None)
