"""The guard's word on all a generator would be given, and what the policy makes of it."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chat_gateway.chat import (
    Blocked,
    ChatEvent,
    ChatRequest,
    InvalidChat,
    Judged,
    OutOfTime,
    Unjudged,
)
from chat_gateway.exchange import Exchange
from chat_gateway.guard import Guard
from chat_gateway.guard_failure import may_pass, prompt_error
from chat_gateway.observer import Action, Decision, Part
from chat_gateway.request_fields import fields_text
from guard_service.moderation import (
    Conversation,
    DeadlineExceeded,
    Message,
    Phase,
    Role,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the guard made of one part: a verdict, or the error in its place."""

    part: Part
    text: str
    result: Verdict | Exception


async def judge_prompt(guard: Guard, exchange: Exchange) -> tuple[ChatEvent, ...]:
    """What to tell the client of its prompt; a `Blocked` among it ends the request.

    The parts are judged at the same time, and the worst that is found decides.

    Raises:
        GatewayError: no verdict could be had, and the policy does not let that pass.
    """
    began = time.monotonic()
    findings = await asyncio.gather(
        *(_judge(guard, exchange, part, conversation) for part, conversation in _parts(exchange))
    )
    worst = max(findings, key=lambda finding: _severity(finding, exchange))
    seconds = time.monotonic() - began
    if isinstance(worst.result, Exception):
        return _without_verdict(worst, worst.result, exchange, seconds)
    return _with_verdict(worst, worst.result, exchange, seconds)


def _parts(exchange: Exchange) -> Iterator[tuple[Part, Conversation]]:
    """Everything that is judged, each as the last turn of a conversation."""
    conversation = exchange.conversation
    yield Part.LAST_TURN, conversation
    text = fields_text(exchange.request)
    if text:
        yield Part.FIELDS, (Message(Role.USER, text),)
    if exchange.policy.judge_earlier_turns:
        for end in range(1, len(conversation)):
            before, after = conversation[end - 1], conversation[end]
            # To the guard neighbouring messages of one side are one turn.
            if Phase.of(before.role) is not Phase.of(after.role):
                yield Part.EARLIER_TURN, conversation[:end]


async def _judge(
    guard: Guard, exchange: Exchange, part: Part, conversation: Conversation
) -> _Finding:
    text = conversation[-1].content
    try:
        verdict = await _verdict(guard, exchange, conversation)
    except Exception as error:  # noqa: BLE001 - fail closed: whatever went wrong, nothing passes
        return _Finding(part, text, error)
    exchange.observer.judged(Phase.PROMPT, verdict)
    return _Finding(part, text, verdict)


async def _verdict(guard: Guard, exchange: Exchange, conversation: Conversation) -> Verdict:
    timeout_seconds = exchange.seconds_left()
    try:
        # The guard keeps the deadline itself; this is for one that does not answer at all.
        async with asyncio.timeout(timeout_seconds):
            return await guard.moderate(
                conversation,
                policy_id=exchange.policy.guard_policy_id,
                request_id=exchange.request_id,
                timeout_seconds=timeout_seconds,
            )
    except (TimeoutError, DeadlineExceeded) as error:
        exchange.seconds_left()
        raise DeadlineExceeded("the guard did not answer in time") from error


def _severity(finding: _Finding, exchange: Exchange) -> int:
    """Unsafe comes first, so that no trouble with another part can let it pass."""
    match finding.result:
        case Verdict(unsafe=unsafe):
            return 4 if unsafe else 0
        case OutOfTime():
            return 3
        case error:
            return 1 if may_pass(error, Phase.PROMPT, exchange.policy) else 2


def _with_verdict(
    finding: _Finding, verdict: Verdict, exchange: Exchange, seconds: float
) -> tuple[ChatEvent, ...]:
    judged = Judged(Phase.PROMPT, verdict, None, len(finding.text), final=True)
    if not verdict.unsafe:
        _report(exchange, Action.PASSED, finding, seconds)
        return (judged,)
    if not exchange.policy.mode.blocks:
        _report(exchange, Action.REPORTED, finding, seconds)
        return (judged,)
    _report(exchange, Action.BLOCKED, finding, seconds)
    return judged, Blocked(Phase.PROMPT, None, exchange.policy.refusal, verdict)


def _without_verdict(
    finding: _Finding, error: Exception, exchange: Exchange, seconds: float
) -> tuple[ChatEvent, ...]:
    if isinstance(error, OutOfTime):
        raise error
    if exchange.policy.mode.blocks and not may_pass(error, Phase.PROMPT, exchange.policy):
        told = prompt_error(error, param=_param(finding.part, exchange.request))
        if isinstance(told, InvalidChat):
            finding = replace(finding, result=told)  # the caller's mistake, not the guard's
        _report(exchange, Action.BLOCKED, finding, seconds)
        raise told from None
    _report(exchange, Action.UNJUDGED, finding, seconds)
    return (Unjudged(Phase.PROMPT, None, type(error).__name__),)


def _param(part: Part, request: ChatRequest) -> str:
    """The field of a request that a client is told of when the guard refuses a part."""
    if part is not Part.FIELDS:
        return "messages"
    return "tools" if request.tools else "stop" if request.sampling.stop else "messages"


def _report(exchange: Exchange, action: Action, finding: _Finding, seconds: float) -> None:
    verdict = finding.result if isinstance(finding.result, Verdict) else None
    exchange.observer.decided(
        Decision(
            request_id=exchange.request_id,
            policy=exchange.policy,
            phase=Phase.PROMPT,
            part=finding.part,
            choice=None,
            action=action,
            verdict=verdict,
            reason="" if verdict else type(finding.result).__name__,
            guard_seconds=seconds,
            text=finding.text,
        )
    )
