"""What it means for a request when the guard has no verdict."""

from chat_gateway.chat import GatewayError, GuardUnavailable, InvalidChat, TooBusy
from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import (
    DeadlineExceeded,
    InvalidRequest,
    ModerationError,
    NotReady,
    Overloaded,
    Phase,
)

_ABSENCE = (NotReady, Overloaded, DeadlineExceeded)
_PROMPT_FIELDS = ("conversation", "request")


def may_pass(error: Exception, phase: Phase, policy: GatewayPolicy) -> bool:
    """Whether the policy lets this phase pass without a verdict.

    Only the guard's absence is let pass. A text that the guard refuses or fails on is not: one
    who knew how to make the guard fail would know how to pass it. Refused credentials end here
    too, since the client reports them as a failed judgement.
    """
    return phase in policy.fail_open and isinstance(error, _ABSENCE)


def prompt_error(error: Exception, *, param: str) -> GatewayError:
    """The error a request ends in when its field `param` could not be judged."""
    if isinstance(error, InvalidRequest) and error.field.startswith(_PROMPT_FIELDS):
        return InvalidChat(param, f"the guard refuses what it holds: {error}")
    if isinstance(error, Overloaded):
        return TooBusy("the guard is overloaded", error.retry_after_seconds)
    if isinstance(error, ModerationError):
        return GuardUnavailable(f"the prompt could not be judged ({type(error).__name__})")
    return GuardUnavailable("the prompt could not be judged")
