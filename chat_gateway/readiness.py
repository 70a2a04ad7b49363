"""Keeps saying whether an answer can be expected, to everyone who asks in any way."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from chat_gateway.composition import Gateway
from chat_gateway.metrics import Dependency, Metrics
from guard_service.health_port import UPDATE_SECONDS as BEAT_SECONDS
from guard_service.health_port import HealthPort
from guard_service.moderation import ModerationError

UPDATE_SECONDS = 1.0
STEADY_SECONDS = 5.0
GUARD_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Readiness:
    """Asks guard and generator, and tells the metrics, the health port and `tell_callers`."""

    def __init__(
        self,
        gateway: Gateway,
        metrics: Metrics,
        health_port: HealthPort | None,
        tell_callers: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._health_port = health_port
        self._tell_callers = tell_callers
        self._is_welcome = True
        self._was_ready: bool | None = None

    async def keep(self) -> None:
        """It takes the guard and the generator to answer; never returns."""
        while True:
            await self._say(ready=self._is_welcome and await self._can_answer())
            await asyncio.sleep(STEADY_SECONDS if self._was_ready else UPDATE_SECONDS)

    async def keep_alive(self) -> None:
        """Whoever is up there, the gateway lives while its event loop turns; never returns."""
        while True:
            self._report()
            await asyncio.sleep(BEAT_SECONDS)

    async def leave(self) -> None:
        """New requests are not welcome from now on."""
        self._is_welcome = False
        self._metrics.show_draining()
        await self._say(ready=False)

    async def _can_answer(self) -> bool:
        generator_ready, guard_ready = await asyncio.gather(
            self._gateway.generator.is_ready(), self._is_guard_ready()
        )
        self._metrics.show_dependency(Dependency.GENERATOR, ready=generator_ready)
        self._metrics.show_dependency(Dependency.GUARD, ready=guard_ready)
        return generator_ready and guard_ready

    async def _is_guard_ready(self) -> bool:
        try:
            await self._gateway.guard.info(timeout_seconds=GUARD_SECONDS)
        except ModerationError:
            return False
        return True

    async def _say(self, *, ready: bool) -> None:
        ready = ready and self._is_welcome  # draining may have begun during the question
        if ready != self._was_ready:
            _log.info("ready" if ready else "not ready")
        self._was_ready = ready
        self._metrics.show_ready(ready=ready)
        self._report()
        await self._tell_callers(ready)

    def _report(self) -> None:
        if self._health_port is not None:
            self._health_port.report(live=True, ready=bool(self._was_ready))
