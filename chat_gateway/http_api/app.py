"""The HTTP API put together."""

from collections.abc import Iterator, Mapping

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.http_api.chat_reply import ChatCompletionChunk
from chat_gateway.http_api.chat_route import chat_router
from chat_gateway.http_api.chat_schema import ChatCompletionRequest
from chat_gateway.http_api.errors import error_answer
from chat_gateway.http_api.exchange import ExchangeMiddleware
from chat_gateway.http_api.health import health_router
from chat_gateway.http_api.intake import IntakeMiddleware
from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.http_api.models import model_router
from chat_gateway.http_api.moderations import ModerationRequest, moderation_router
from chat_gateway.http_api.openapi import describe
from chat_gateway.http_api.page_route import page_router
from chat_gateway.http_api.predict_route import PredictRequest, predict_router
from chat_gateway.http_api.services import Services
from chat_gateway.pipeline import Pipeline
from chat_gateway.places import Places
from chat_gateway.policy import GatewayPolicy
from chat_gateway.text_moderation import TextModeration


def build_app(
    pipeline: Pipeline,
    moderation: TextModeration,
    generator: Generator,
    guard: Guard,
    *,
    policies: Mapping[str, GatewayPolicy],
    default_policy_id: str,
    selectable: frozenset[str] = frozenset(),
    limits: HttpLimits,
    places: Places,
    with_predictions: bool = False,
) -> FastAPI:
    """The application. `selectable` names the policies a client may ask for.

    With predictions it also answers in Vertex AI's shape.
    """
    services = Services(
        pipeline=pipeline,
        moderation=moderation,
        generator=generator,
        guard=guard,
        policies=policies,
        default_policy_id=default_policy_id,
        selectable=selectable,
        limits=limits,
    )
    app = FastAPI(
        title="Chat gateway",
        version="1",
        description="OpenAI-compatible chat, judged by Llama Guard in both directions.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        # Its own would hold paths, queries and the words of errors; see `chat_gateway.tracing`.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    for router in _routers(services, with_predictions=with_predictions):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_middleware(IntakeMiddleware, limits=limits, places=places)
    app.add_middleware(ExchangeMiddleware)
    predictions = [PredictRequest] if with_predictions else []
    describe(app, ChatCompletionRequest, ModerationRequest, ChatCompletionChunk, *predictions)
    return app


def _routers(services: Services, *, with_predictions: bool) -> Iterator[APIRouter]:
    yield chat_router(services)
    if with_predictions:
        yield predict_router(services)
    yield moderation_router(services)
    yield model_router(services)
    yield health_router(services)
    yield page_router()


async def _answer(request: Request, error: Exception) -> Response:
    del request
    return error_answer(error)
