"""What `grpc.health.v1` says: `live` while work goes on, `ready` while new work is welcome."""

import asyncio

from grpc_health.v1.health import aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from guard_service.batcher import Batcher
from guard_service.health_port import LIVE, OVERALL, READY, UPDATE_SECONDS, HealthPort
from guard_service.metrics import Metrics


class Health:
    """Keeps the health service truthful.

    `live` fails when there was work but no batch was finished for `stall_seconds`, and when the
    service has failed: the process should be restarted. An idle service is live. `ready`, and the
    overall health, also need the service to be warm and not draining.
    """

    def __init__(
        self,
        batcher: Batcher,
        metrics: Metrics,
        *,
        stall_seconds: float,
        port: HealthPort | None = None,
    ) -> None:
        self.servicer = aio.HealthServicer()
        self._batcher = batcher
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._port = port
        self._welcome = False
        self._failed = False

    async def welcome(self, *, work: bool) -> None:
        """Say from now on whether new work is welcome."""
        self._welcome = work
        await self.update()

    async def fail(self) -> None:
        """Say from now on that the service has failed."""
        self._failed = True
        await self.update()

    async def keep(self) -> None:
        """Update for ever."""
        while True:
            await self.update()
            await asyncio.sleep(UPDATE_SECONDS)

    async def update(self) -> None:
        """Say how things stand now."""
        stalled = self._batcher.seconds_since_progress >= self._stall_seconds
        live = not self._failed and not stalled
        ready = live and self._welcome
        self._metrics.show_ready(ready=ready)
        if self._port is not None:
            self._port.report(live=live, ready=ready)
        await self.servicer.set(LIVE, _status(serving=live))
        await self.servicer.set(READY, _status(serving=ready))
        await self.servicer.set(OVERALL, _status(serving=ready))


def _status(*, serving: bool) -> int:
    return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
