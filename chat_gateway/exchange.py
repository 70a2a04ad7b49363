"""One request on its way through the gateway."""

import time
from dataclasses import dataclass, field

from chat_gateway.chat import ChatRequest, OutOfTime
from chat_gateway.observer import Observer
from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What every step needs to know: `conversation` is what the guard reads of the request.

    `tells_held` asks for news of what is held back. `deadline` and `started` are on the clock of
    `time.monotonic`.
    """

    request: ChatRequest
    conversation: Conversation
    policy: GatewayPolicy
    request_id: str
    deadline: float
    observer: Observer
    tells_held: bool = False
    started: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float:
        """Until the deadline.

        Raises:
            OutOfTime: it has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime("the request's deadline passed before the answer was complete")
        return left

    def seconds_gone(self) -> float:
        """Since the request came in."""
        return time.monotonic() - self.started
