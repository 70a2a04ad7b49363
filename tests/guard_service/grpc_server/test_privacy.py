"""What was said to the service appears in no error and in no log, whatever goes wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CANARY = "canary-7f3a"

PROGRAM = f"""
import asyncio, grpc
from guard_service.logs import configure_logs
from guard_service.v1 import guard_pb2
from tests.fakes import FakeEngine, flag_bombs
from tests.serving import asking, conversation, delta, opening, running_server, sending

def judge(text, num_categories):
    if "raise" in text:
        raise ValueError(text)
    if "nan" in text:
        return [text]
    return flag_bombs(text, num_categories)

async def main():
    configure_logs("LOG_FORMAT", "debug")
    async with running_server(FakeEngine(judge)) as service:
        stub = service.stub
        for text in ("{CANARY} bomb", "{CANARY} raise", "{CANARY} nan", "{CANARY}\\0"):
            try:
                print("answered", (await stub.Moderate(asking(text))).verdict.unsafe)
            except grpc.aio.AioRpcError as error:
                print(error.code(), error.details(), error.trailing_metadata())
            stream = stub.ModerateStream(sending(opening(), delta(text, check=True)))
            try:
                print("streamed", [r.num_characters async for r in stream])
            except grpc.aio.AioRpcError as error:
                print(error.code(), error.details(), error.trailing_metadata())
        batch = [conversation("{CANARY} raise"), conversation("{CANARY} " * 40_000)]
        print(await stub.ModerateBatch(guard_pb2.ModerateBatchRequest(conversations=batch)))
        service.moderator.plan = lambda *_: 1 / len("{CANARY}"[99:])
        try:
            await stub.Moderate(asking("{CANARY}"))
        except grpc.aio.AioRpcError as error:
            print(error.code(), error.details())
        raw = service.channel.unary_unary("/guard_service.v1.GuardService/Moderate")
        try:
            await raw(b"\\x12\\x0d{CANARY}\\xff\\xfe")
        except grpc.aio.AioRpcError as error:
            print(error.code(), error.details())

asyncio.run(main())
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_text_of_a_caller_leaves_the_service(log_format: str):
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("LOG_FORMAT", log_format)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    everything = finished.stdout + finished.stderr
    assert CANARY not in everything
    assert "answered True" in everything
    assert "unexpected error" in finished.stderr
    assert "ZeroDivisionError" in finished.stderr
    assert "division by zero" not in everything
