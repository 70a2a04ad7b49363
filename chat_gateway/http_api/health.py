"""Whether the process lives, and whether it can answer now."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from chat_gateway.http_api.guard_model import INFO_SECONDS
from chat_gateway.http_api.platform_paths import HEALTH_PATH
from chat_gateway.http_api.services import Services
from guard_service.moderation import ModerationError

State = Literal["ready", "unavailable"]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """What an answer needs, each on its own."""

    status: State
    guard: State
    generator: State


def health_router(services: Services) -> APIRouter:
    """The endpoints over these services."""
    router = APIRouter()

    @router.get("/health/live", summary="The process lives")
    async def live() -> Alive:
        return Alive()

    @router.get(
        HEALTH_PATH,
        summary="An answer can be expected",
        responses={503: {"model": Readiness, "description": "Something it needs is missing"}},
    )
    async def ready(response: Response) -> Readiness:
        guard, generator = await asyncio.gather(
            _guard_answers(services), services.generator.is_ready()
        )
        if not (guard and generator):
            response.status_code = 503
        return Readiness(
            status=_state(guard and generator), guard=_state(guard), generator=_state(generator)
        )

    return router


async def _guard_answers(services: Services) -> bool:
    try:
        await services.guard.info(timeout_seconds=INFO_SECONDS)
    except ModerationError:
        return False
    return True


def _state(is_ready: bool) -> State:  # noqa: FBT001 - the one thing it is about
    return "ready" if is_ready else "unavailable"
