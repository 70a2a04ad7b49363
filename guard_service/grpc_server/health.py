"""What `grpc.health.v1` says: `live` while work goes on, `ready` while new work is welcome."""

import asyncio

from grpc_health.v1.health import aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from guard_service.batcher import Batcher
from guard_service.metrics import Metrics

OVERALL = ""
LIVE = "live"
READY = "ready"
UPDATE_SECONDS = 0.5


class Health:
    """Keeps the health service truthful.

    `live` fails when there was work but no batch was finished for `stall_seconds`: the process
    should be restarted. An idle service is live. `ready`, and the overall health, also need the
    service to be warm and not draining.
    """

    def __init__(self, batcher: Batcher, metrics: Metrics, *, stall_seconds: float) -> None:
        self.servicer = aio.HealthServicer()
        self._batcher = batcher
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._welcome = False

    async def welcome(self, *, work: bool) -> None:
        """Say from now on whether new work is welcome."""
        self._welcome = work
        await self.update()

    async def keep(self) -> None:
        """Update for ever."""
        while True:
            await self.update()
            await asyncio.sleep(UPDATE_SECONDS)

    async def update(self) -> None:
        """Say how things stand now."""
        live = self._batcher.seconds_since_progress < self._stall_seconds
        ready = live and self._welcome
        self._metrics.show_ready(ready=ready)
        await self.servicer.set(LIVE, _status(serving=live))
        await self.servicer.set(READY, _status(serving=ready))
        await self.servicer.set(OVERALL, _status(serving=ready))


def _status(*, serving: bool) -> int:
    return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
