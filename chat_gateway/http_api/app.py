"""The HTTP API put together."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
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
from chat_gateway.http_api.services import Services
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import GatewayPolicy


def build_app(
    pipeline: ChatPipeline,
    generator: Generator,
    guard: Guard,
    *,
    policies: Mapping[str, GatewayPolicy],
    default_policy_id: str,
    selectable: frozenset[str] = frozenset(),
    limits: HttpLimits = HttpLimits(),  # noqa: B008 - frozen
) -> FastAPI:
    """The application. `selectable` names the policies a client may ask for."""
    services = Services(
        pipeline=pipeline,
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
    )
    for router in (
        chat_router(services),
        moderation_router(services),
        model_router(services),
        health_router(services),
        page_router(),
    ):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_middleware(IntakeMiddleware, limits=limits)
    app.add_middleware(ExchangeMiddleware)
    describe(app, ChatCompletionRequest, ModerationRequest, ChatCompletionChunk)
    return app


async def _answer(request: Request, error: Exception) -> Response:
    del request
    return error_answer(error)
