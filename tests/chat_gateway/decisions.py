"""Decisions to be counted and recorded."""

from chat_gateway.observer import Action, Decision, Kind
from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import Phase, Verdict
from tests.chat_gateway.fakes import verdict

TEXT = "the words nobody may read"
SAFE = verdict(0.01)


def decision(
    action: Action = Action.PASSED,
    *,
    phase: Phase = Phase.RESPONSE,
    judged: Verdict | None = SAFE,
    text: str = TEXT,
    reason: str = "",
    request_id: str = "r1",
    kind: Kind = Kind.CHAT,
) -> Decision:
    return Decision(
        request_id=request_id,
        policy=GatewayPolicy(),
        phase=phase,
        choice=None if phase is Phase.PROMPT else 0,
        action=action,
        verdict=judged,
        reason=reason,
        guard_seconds=0.25,
        text=text,
        kind=kind,
    )
