"""From the first request to the last: serve until told to stop, then drain."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from guard_service.batcher import Batcher
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.server import GuardServer
from guard_service.health_port import HealthPort
from guard_service.metrics import Metrics
from guard_service.moderation import ConfigurationError
from guard_service.moderator import Moderator

EXIT_DRAINED = 0
EXIT_UNFINISHED = 1
"""Stopped while warming up, drain cut short, or failed. The model may still hold its thread then:
a caller who wants the process gone must not wait for threads."""
EXIT_ENGINE_LOST = 70
"""The device failed for good: only a new process can judge."""


async def serve(
    moderator: Moderator,
    batcher: Batcher,
    options: ServerOptions,
    metrics: Metrics,
    health_port: HealthPort | None = None,
    *,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain at once.

    Runs the batcher. Returns the exit code for the process.

    Raises:
        ConfigurationError: The address cannot be bound, or the model gives no verdicts.
    """
    with _stop_signals() as (told_to_stop, told_again):
        async with GuardServer(
            moderator, batcher, options, metrics, health_port, interceptors=interceptors
        ) as server:
            try:
                await _first(server.welcome(), told_to_stop.wait(), server.failed())
                if server.is_welcoming:
                    await _first(told_to_stop.wait(), server.failed())
                if server.is_welcoming and told_to_stop.is_set():
                    await _first(server.drain(), told_again.wait(), server.failed())
            except ConfigurationError:
                # A device that fails during the warm-up is no matter of settings.
                if not batcher.is_lost:
                    raise
                await server.failed()
            if batcher.is_lost:
                return EXIT_ENGINE_LOST
            return EXIT_DRAINED if server.is_drained else EXIT_UNFINISHED


@contextmanager
def _stop_signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Events for the first and the second signal to stop."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def note() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note)
    try:
        yield first, second
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _first(*work: Coroutine[Any, Any, object]) -> None:
    """Run these together until the first of them ends, well or badly; then cancel the others."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
