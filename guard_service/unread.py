"""Streams of gRPC whose client does not read what it is sent."""

import asyncio
from typing import Any

import grpc


async def write_or_give_up(
    context: "grpc.aio.ServicerContext[Any, Any]", message: Any, *, seconds: float
) -> None:
    """Send `message`; a client that leaves no room for it within `seconds` is given up.

    Raises:
        asyncio.CancelledError: It was, and the task with it, as if the client had left: a status
            would wait for this client too.
    """
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    giving_up = loop.call_later(seconds, task.cancel) if task is not None else None
    try:
        await context.write(message)
    finally:
        if giving_up is not None:
            giving_up.cancel()
