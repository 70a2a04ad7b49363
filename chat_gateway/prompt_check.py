"""The guard's word on a prompt, and what the policy makes of it."""

import asyncio
import time

from chat_gateway.chat import Blocked, ChatEvent, Judged, OutOfTime, Unjudged
from chat_gateway.exchange import Exchange
from chat_gateway.guard import Guard
from chat_gateway.guard_failure import may_pass, prompt_error
from chat_gateway.observer import Action, Decision
from guard_service.moderation import DeadlineExceeded, Phase, Verdict


async def judge_prompt(guard: Guard, exchange: Exchange) -> tuple[ChatEvent, ...]:
    """What to tell the client of its prompt; a `Blocked` among it ends the request.

    Raises:
        GatewayError: no verdict could be had, and the policy does not let that pass.
    """
    began = time.monotonic()
    try:
        verdict = await _verdict(guard, exchange)
    except OutOfTime:
        raise
    except Exception as error:  # noqa: BLE001 - fail closed: whatever went wrong, nothing passes
        return _without_verdict(error, exchange, time.monotonic() - began)
    exchange.observer.judged(Phase.PROMPT, verdict)
    _report(exchange, _action(verdict, exchange), verdict, "", time.monotonic() - began)
    return _with_verdict(verdict, exchange)


async def _verdict(guard: Guard, exchange: Exchange) -> Verdict:
    timeout_seconds = exchange.seconds_left()
    try:
        # The guard keeps the deadline itself; this is for one that does not answer at all.
        async with asyncio.timeout(timeout_seconds):
            return await guard.moderate(
                exchange.conversation,
                policy_id=exchange.policy.guard_policy_id,
                request_id=exchange.request_id,
                timeout_seconds=timeout_seconds,
            )
    except (TimeoutError, DeadlineExceeded) as error:
        exchange.seconds_left()
        raise DeadlineExceeded("the guard did not answer in time") from error


def _action(verdict: Verdict, exchange: Exchange) -> Action:
    if not verdict.unsafe:
        return Action.PASSED
    return Action.BLOCKED if exchange.policy.mode.blocks else Action.REPORTED


def _with_verdict(verdict: Verdict, exchange: Exchange) -> tuple[ChatEvent, ...]:
    num_characters = len(exchange.conversation[-1].content)
    judged = Judged(Phase.PROMPT, verdict, None, num_characters, final=True)
    if not verdict.unsafe or not exchange.policy.mode.blocks:
        return (judged,)
    return judged, Blocked(Phase.PROMPT, None, exchange.policy.refusal, verdict)


def _without_verdict(error: Exception, exchange: Exchange, seconds: float) -> tuple[ChatEvent, ...]:
    reason = type(error).__name__
    if exchange.policy.mode.blocks and not may_pass(error, Phase.PROMPT, exchange.policy):
        _report(exchange, Action.BLOCKED, None, reason, seconds)
        raise prompt_error(error) from None
    _report(exchange, Action.UNJUDGED, None, reason, seconds)
    return (Unjudged(Phase.PROMPT, None, reason),)


def _report(
    exchange: Exchange, action: Action, verdict: Verdict | None, reason: str, seconds: float
) -> None:
    exchange.observer.decided(
        Decision(
            request_id=exchange.request_id,
            policy=exchange.policy,
            phase=Phase.PROMPT,
            choice=None,
            action=action,
            verdict=verdict,
            reason=reason,
            guard_seconds=seconds,
            text=exchange.conversation[-1].content,
        )
    )
