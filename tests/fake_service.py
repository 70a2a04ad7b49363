"""A server over a fake engine, as a process: `python -m tests.fake_service`."""

import argparse
import asyncio
import os

import structlog

from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.serving import serve
from tests.fakes import FakeEngine
from tests.serving import composed


def main() -> None:
    """Serve until told to stop, and leave with the exit code `serve` returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds-per-batch", type=float, default=0.0)
    parser.add_argument("--max-batch-tokens", type=int, default=64)
    parser.add_argument("--lame-duck-seconds", type=float, default=0.2)
    parser.add_argument("--max-connection-age-seconds", type=float, default=300.0)
    parser.add_argument("--hold", action="store_true", help="never finish the first batch")
    arguments = parser.parse_args()
    engine = FakeEngine(seconds_per_batch=arguments.seconds_per_batch)
    if arguments.hold:
        engine.hold()
    structlog.configure(processors=[structlog.processors.LogfmtRenderer()])
    options = ServerOptions(
        host=arguments.host,
        port=arguments.port,
        lame_duck_seconds=arguments.lame_duck_seconds,
        max_connection_age_seconds=arguments.max_connection_age_seconds,
    )
    moderator, batcher, metrics = composed(engine, max_batch_tokens=arguments.max_batch_tokens)
    code = asyncio.run(serve(moderator, batcher, options, metrics))
    # A held engine never lets go of its thread, and Python would wait for it.
    os._exit(code)


if __name__ == "__main__":
    main()
