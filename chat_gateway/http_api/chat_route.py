"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request
from starlette.responses import Response

from chat_gateway.chat import Blocked, ChatEvent, ChatRequest, InvalidChat
from chat_gateway.http_api.chat_heading import Heading
from chat_gateway.http_api.chat_reply import ChatCompletion, ChatCompletionChunk
from chat_gateway.http_api.chat_request import chat_request
from chat_gateway.http_api.chat_schema import ChatCompletionRequest
from chat_gateway.http_api.chat_stream import ChatStream
from chat_gateway.http_api.chat_whole import WholeChat
from chat_gateway.http_api.errors import BlockedPrompt
from chat_gateway.http_api.event_stream import EventStream
from chat_gateway.http_api.guard_detail import DETAIL_HEADER, WITH_HELD, WITH_VERDICTS
from chat_gateway.http_api.guard_model import require_guard_model
from chat_gateway.http_api.moderation_report import UNJUDGED_HEADER, ModerationReport
from chat_gateway.http_api.openapi import error_answers, event_stream, json_body
from chat_gateway.http_api.platform_paths import CHAT_PATH
from chat_gateway.http_api.policy_choice import POLICY_HEADER, chosen_policy, strengthened
from chat_gateway.http_api.problem import read_json
from chat_gateway.http_api.services import Services
from chat_gateway.policy import GatewayPolicy, Mode

FILTERED = "the prompt was filtered under the content policy of this service"


def chat_router(services: Services) -> APIRouter:
    """The endpoint over these services."""
    router = APIRouter()

    @router.post(
        CHAT_PATH,
        summary="Answer a conversation, judged in both directions",
        response_model=ChatCompletion,
        responses=event_stream(ChatCompletionChunk)
        | error_answers(400, 404, 408, 413, 415, 429, 502, 503, 504),
        openapi_extra=json_body(ChatCompletionRequest),
    )
    async def create_chat_completion(request: Request) -> Response:
        body = read_json(ChatCompletionRequest, await request.body())
        return await answered(services, request, body)

    return router


async def answered(services: Services, request: Request, body: ChatCompletionRequest) -> Response:
    """The answer to one chat, under the policy the request's headers name; whole or streamed."""
    chat = chat_request(body, services.limits)
    policy = chosen_policy(services, request.headers.get(POLICY_HEADER))
    policy = strengthened(policy, body.moderation)
    if body.moderation is not None:
        await require_guard_model(services.guard, body.moderation.model, param="moderation.model")
    detail = request.headers.get(DETAIL_HEADER)
    if detail not in (None, *WITH_VERDICTS):
        raise InvalidChat(DETAIL_HEADER, f"must be {' or '.join(WITH_VERDICTS)}")
    heading = _heading(body, chat, policy, detail=detail in WITH_VERDICTS)
    events = _events(
        services,
        chat,
        policy,
        request.state.request_id,
        tells_held=detail == WITH_HELD and bool(body.stream),
    )
    headers = {POLICY_HEADER: policy.id}
    if body.stream:
        return await _streamed(heading, events, headers)
    return await _whole(heading, events, headers)


def _heading(
    body: ChatCompletionRequest, chat: ChatRequest, policy: GatewayPolicy, *, detail: bool
) -> Heading:
    options = body.stream_options
    return Heading(
        model=chat.model,
        num_choices=chat.sampling.num_choices,
        with_usage=options is not None and bool(options.include_usage),
        with_moderation=body.moderation is not None or policy.mode is Mode.ANNOTATE,
        with_detail=detail and policy.mode is not Mode.SHADOW,
        silent=policy.mode is Mode.SHADOW,
    )


async def _events(
    services: Services,
    chat: ChatRequest,
    policy: GatewayPolicy,
    request_id: str,
    *,
    tells_held: bool,
) -> AsyncGenerator[ChatEvent, None]:
    """The pipeline's events; a blocked prompt ends as an error where the policy wants that."""
    deadline = time.monotonic() + services.limits.max_chat_seconds
    events = services.pipeline.chat(
        chat, policy, request_id=request_id, deadline=deadline, tells_held=tells_held
    )
    async with aclosing(events):
        async for event in events:
            is_prompt = isinstance(event, Blocked) and event.choice is None
            if is_prompt and policy.error_on_blocked_prompt:
                raise BlockedPrompt(FILTERED)
            yield event


async def _streamed(
    heading: Heading, events: AsyncGenerator[ChatEvent, None], headers: dict[str, str]
) -> Response:
    stream = ChatStream(heading)
    lines = _lines(stream, events)
    first = await anext(lines)
    return EventStream(first, lines, headers | _unjudged(stream.report))


async def _lines(
    stream: ChatStream, events: AsyncGenerator[ChatEvent, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events), aclosing(stream.lines(events)) as lines:
        async for line in lines:
            yield line


async def _whole(
    heading: Heading, events: AsyncGenerator[ChatEvent, None], headers: dict[str, str]
) -> Response:
    chat = WholeChat(heading)
    async with aclosing(events):
        completion = await chat.completion(events)
    return Response(
        completion.model_dump_json(exclude_unset=True),
        headers=headers | _unjudged(chat.report),
        media_type="application/json",
    )


def _unjudged(report: ModerationReport) -> dict[str, str]:
    return {UNJUDGED_HEADER: report.unjudged} if report.unjudged else {}
