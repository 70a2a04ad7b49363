"""Leaving an asynchronous iteration early without leaving its work behind."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

Item = TypeVar("Item")


@asynccontextmanager
async def closed_after(items: AsyncIterator[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """Close `items` at the end of the block, if they are of the kind that can be closed."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
