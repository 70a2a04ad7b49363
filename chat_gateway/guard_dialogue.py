"""Sending text to a guard's stream while reading its checkpoints."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from guard_service.moderation import InvalidRequest

GRACE_SECONDS = 1.0
"""How long the reading side of a broken stream is given to say why it broke."""


async def send_and_read(
    sending: Coroutine[Any, Any, None], reading: Coroutine[Any, Any, None]
) -> None:
    """Run both until the reading is over; an error of either ends both.

    A stream that broke while nothing was read fails the sender with no more than that; the
    reader then has the status the stream really ended with.
    """
    sender, reader = asyncio.ensure_future(sending), asyncio.ensure_future(reading)
    try:
        await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
        if not reader.done():
            await _outlive(sender, reader)
        reader.result() if reader.done() else sender.result()
    finally:
        sender.cancel()
        reader.cancel()
        await asyncio.wait({sender, reader})


async def _outlive(sender: asyncio.Future[None], reader: asyncio.Future[None]) -> None:
    """Wait for the reader: to its end, or for a moment if the sender has failed."""
    failed = sender.exception()
    if failed is None:
        await asyncio.wait({reader})
    elif not isinstance(failed, InvalidRequest):
        await asyncio.wait({reader}, timeout=GRACE_SECONDS)
