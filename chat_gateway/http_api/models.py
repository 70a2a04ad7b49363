"""`GET /v1/models` and `GET /v1/policies`: what a request may name."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from chat_gateway.http_api.policy_choice import offered_policies
from chat_gateway.http_api.services import Services
from chat_gateway.policy import Mode


class Model(BaseModel):
    """A model that answers; `created` is 0, since nobody here knows."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "gateway"


class ModelList(BaseModel):
    """The models, the default first."""

    object: Literal["list"] = "list"
    data: list[Model]


class OfferedPolicy(BaseModel):
    """A policy that may be named in `x-guard-policy`."""

    id: str
    mode: Mode


class PolicyList(BaseModel):
    """The policies, the default first."""

    object: Literal["list"] = "list"
    data: list[OfferedPolicy]


def model_router(services: Services) -> APIRouter:
    """The endpoints over these services."""
    router = APIRouter()

    @router.get("/v1/models", summary="Models a chat may ask for")
    async def list_models() -> ModelList:
        return ModelList(data=[Model(id=name) for name in services.generator.models])

    @router.get("/v1/policies", summary="Policies a request may choose")
    async def list_policies() -> PolicyList:
        return PolicyList(
            data=[OfferedPolicy(id=each.id, mode=each.mode) for each in offered_policies(services)]
        )

    return router
