"""`POST /v1/moderations`: verdicts alone, for clients of OpenAI's endpoint."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Discriminator, Field, Tag
from starlette.responses import Response

from chat_gateway.chat import InvalidChat
from chat_gateway.http_api.category_names import CategoryNames
from chat_gateway.http_api.content import Part, Strict, joined
from chat_gateway.http_api.errors import guard_error
from chat_gateway.http_api.guard_model import require_guard_model
from chat_gateway.http_api.moderation_result import ModerationResult, moderation_result
from chat_gateway.http_api.openapi import error_answers, json_body
from chat_gateway.http_api.policy_choice import POLICY_HEADER, chosen_policy
from chat_gateway.http_api.problem import read_json
from chat_gateway.http_api.services import Services
from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import ModerationError, Verdict


def _shape(given: Any) -> str:
    if not isinstance(given, list):
        return "<text>"
    return "<parts>" if given and isinstance(given[0], dict) else "<texts>"


Input = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(min_length=1), Tag("<texts>")]
    | Annotated[list[Part], Field(min_length=1), Tag("<parts>")],
    Discriminator(_shape),
]


class ModerationRequest(Strict):
    """One text, texts that each get a result, or the parts of one text."""

    input: Input
    model: str | None = None
    category_names: CategoryNames | None = None


class ModerationResponse(BaseModel):
    """A result for each text, in order."""

    id: str
    model: str
    results: list[ModerationResult]


def moderation_router(services: Services) -> APIRouter:
    """The endpoint over these services."""
    router = APIRouter()

    @router.post(
        "/v1/moderations",
        summary="Judge texts as a user's messages",
        response_model=ModerationResponse,
        responses=error_answers(400, 404, 408, 413, 415, 429, 503, 504),
        openapi_extra=json_body(ModerationRequest),
    )
    async def create_moderation(
        request: Request, category_names: Annotated[CategoryNames | None, Query()] = None
    ) -> Response:
        body = read_json(ModerationRequest, await request.body())
        texts = _texts(body, services.limits.max_moderation_inputs)
        policy = chosen_policy(services, request.headers.get(POLICY_HEADER))
        await require_guard_model(services.guard, body.model, param="model")
        with services.moderation.request():
            verdicts = await _judge(services, texts, policy, request.state.request_id)
        names = body.category_names or category_names or CategoryNames.NATIVE
        response = ModerationResponse(
            id=f"modr-{uuid.uuid4().hex}",
            model=verdicts[0].model.id,
            results=[moderation_result(verdict, names) for verdict in verdicts],
        )
        return Response(response.model_dump_json(), media_type="application/json")

    return router


def _texts(body: ModerationRequest, max_inputs: int) -> list[str]:
    given = body.input
    if isinstance(given, str):
        return [given]
    texts = [each for each in given if isinstance(each, str)]
    if not texts:
        return [joined([each for each in given if not isinstance(each, str)])]
    if len(texts) > max_inputs:
        raise InvalidChat(
            "input", f"{len(texts)} texts; at most {max_inputs} (max_moderation_inputs)"
        )
    return texts


async def _judge(
    services: Services, texts: Sequence[str], policy: GatewayPolicy, request_id: str
) -> list[Verdict]:
    """A verdict for each text, or the first error; the rest is then given up."""
    deadline = time.monotonic() + services.limits.max_moderation_seconds

    async def judge(index: int, text: str) -> Verdict:
        try:
            return await services.moderation.judge(
                text, policy, request_id=request_id, deadline=deadline
            )
        except ModerationError as error:
            param = "input" if len(texts) == 1 else f"input[{index}]"
            raise guard_error(error, param=param) from error

    tasks = [asyncio.create_task(judge(i, text)) for i, text in enumerate(texts)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
