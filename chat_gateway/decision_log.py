"""Log lines about texts that did not simply pass; never any of the texts."""

import structlog

from chat_gateway.observer import Action, Decision, NullObserver

_log = structlog.get_logger(__name__)


class DecisionLog(NullObserver):
    """An `Observer` that logs blocks, reports and, as warnings, what passed unjudged."""

    def decided(self, decision: Decision) -> None:
        """Log a decision worth a line."""
        if decision.action is Action.PASSED:
            return
        say = _log.warning if decision.action is Action.UNJUDGED else _log.info
        say(
            decision.action.value,
            request_id=decision.request_id,
            policy=decision.policy.id,
            kind=decision.kind.value,
            phase=decision.phase.value,
            part=decision.part.value,
            choice=decision.choice,
            **_why(decision),
        )


def _why(decision: Decision) -> dict[str, object]:
    if decision.verdict is None:
        return {"reason": decision.reason}
    return {
        "categories": [category.code for category in decision.verdict.categories],
        "unsafe_probability": round(decision.verdict.unsafe_probability, 4),
    }
