"""A typed asyncio client of the service: it returns verdicts or raises, never anything between."""

from guard_service.client.guard_client import GuardClient
from guard_service.client.guard_stream import GuardStream

__all__ = ["GuardClient", "GuardStream"]
