"""`POST /predict`: Vertex AI's shape around chats. The platform calls it by the path it chose."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from pydantic_core import from_json
from starlette.responses import Response

from chat_gateway.chat import InvalidChat
from chat_gateway.http_api.chat_reply import ChatCompletion
from chat_gateway.http_api.chat_route import answered
from chat_gateway.http_api.chat_schema import ChatCompletionRequest
from chat_gateway.http_api.content import Strict
from chat_gateway.http_api.moderation_report import UNJUDGED_HEADER
from chat_gateway.http_api.openapi import error_answers, json_body
from chat_gateway.http_api.platform_paths import PREDICT_PATH
from chat_gateway.http_api.policy_choice import POLICY_HEADER
from chat_gateway.http_api.problem import read_json
from chat_gateway.http_api.services import Services


class PredictRequest(Strict):
    """Chats, each as `/v1/chat/completions` takes it."""

    instances: Annotated[list[ChatCompletionRequest], Field(min_length=1)]
    parameters: Annotated[dict[str, Any], Field(max_length=0)] | None = None


class PredictResponse(BaseModel):
    """An answer for each chat, in order."""

    predictions: list[ChatCompletion]


def predict_router(services: Services) -> APIRouter:
    """The endpoint over these services."""
    router = APIRouter()

    @router.post(
        PREDICT_PATH,
        summary="Answer chats in Vertex AI's shape, or one chat as it is",
        response_model=PredictResponse,
        responses=error_answers(400, 404, 408, 413, 415, 429, 502, 503, 504),
        openapi_extra=json_body(PredictRequest),
    )
    async def predict(request: Request) -> Response:
        body = await request.body()
        if not _has_instances(body):
            return await answered(services, request, read_json(ChatCompletionRequest, body))
        instances = read_json(PredictRequest, body).instances
        _require_answerable(instances, services.limits.max_instances)
        return _joined(await _all_answered(services, request, instances))

    return router


def _has_instances(body: bytes) -> bool:
    try:
        given = from_json(body)
    except ValueError:
        return False  # the schema of a chat says what is wrong with it
    return isinstance(given, dict) and "instances" in given


def _require_answerable(instances: Sequence[ChatCompletionRequest], max_instances: int) -> None:
    if len(instances) > max_instances:
        raise InvalidChat(
            "instances", f"{len(instances)} given; at most {max_instances} (max_instances)"
        )
    for index, instance in enumerate(instances):
        if instance.stream:
            raise InvalidChat(
                f"instances[{index}].stream",
                "a prediction is whole; to stream, send the chat itself (streamRawPredict)",
            )


async def _all_answered(
    services: Services, request: Request, instances: Sequence[ChatCompletionRequest]
) -> list[Response]:
    """The answers, or the first error; the rest is then given up."""

    async def answer(index: int) -> Response:
        try:
            return await answered(services, request, instances[index])
        except InvalidChat as error:
            raise type(error)(f"instances[{index}].{error.param}", error.problem) from None

    tasks = [asyncio.create_task(answer(index)) for index in range(len(instances))]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _joined(answers: Sequence[Response]) -> Response:
    headers = {POLICY_HEADER: answers[0].headers[POLICY_HEADER]}
    unjudged = sorted({each.headers.get(UNJUDGED_HEADER, "") for each in answers} - {""})
    if unjudged:
        headers[UNJUDGED_HEADER] = ", ".join(unjudged)
    bodies = b",".join(bytes(each.body) for each in answers)
    return Response(
        b'{"predictions":[' + bodies + b"]}", headers=headers, media_type="application/json"
    )
