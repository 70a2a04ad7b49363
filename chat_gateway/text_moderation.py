"""Verdicts alone: texts judged as a user's messages, recorded and counted like every decision."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from chat_gateway.guard import Guard
from chat_gateway.observer import Action, Decision, Kind, Observer, Outcome
from chat_gateway.outcome import outcome_of
from chat_gateway.policy import GatewayPolicy
from chat_gateway.recording import Recorder, require_recording
from guard_service.moderation import Message, ModerationError, Phase, Role, Verdict


class TextModeration:
    """Judges texts that nobody answers; with a `recorder`, only while it is working."""

    def __init__(self, guard: Guard, observer: Observer, recorder: Recorder | None = None) -> None:
        self._guard = guard
        self._observer = observer
        self._recorder = recorder

    @contextmanager
    def request(self) -> Iterator[None]:
        """Surrounds one request, which may hold several texts, and tells how it ended.

        Raises:
            GuardUnavailable: decisions must be recorded and cannot be.
        """
        began, outcome = time.monotonic(), Outcome.ANSWERED
        try:
            require_recording(self._recorder)
            yield
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._observer.moderated(outcome, seconds=time.monotonic() - began)

    async def judge(
        self, text: str, policy: GatewayPolicy, *, request_id: str, deadline: float
    ) -> Verdict:
        """The verdict on one text; `deadline` is on the clock of `time.monotonic`.

        Raises:
            ModerationError: there is none.
        """
        began = time.monotonic()
        result: Verdict | ModerationError
        try:
            result = await self._guard.moderate(
                (Message(Role.USER, text),),
                policy_id=policy.guard_policy_id,
                request_id=request_id,
                timeout_seconds=deadline - began,
            )
        except ModerationError as error:
            result = error
        verdict = result if isinstance(result, Verdict) else None
        self._observer.decided(
            Decision(
                kind=Kind.MODERATION,
                request_id=request_id,
                policy=policy,
                phase=Phase.PROMPT,
                choice=None,
                action=_action(verdict),
                verdict=verdict,
                reason="" if verdict else type(result).__name__,
                guard_seconds=time.monotonic() - began,
                text=text,
            )
        )
        if isinstance(result, ModerationError):
            raise result
        return result


def _action(verdict: Verdict | None) -> Action:
    """Without a verdict nothing may be concluded of the text, as if it were blocked."""
    if verdict is None:
        return Action.BLOCKED
    return Action.REPORTED if verdict.unsafe else Action.PASSED
