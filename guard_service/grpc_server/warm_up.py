"""The first verdicts, before anybody asks: they wake the device and fill the prefix cache."""

import time

from guard_service.moderation import (
    ConfigurationError,
    Conversation,
    DeadlineExceeded,
    Message,
    ModerationError,
    Role,
)
from guard_service.moderator import Moderator

WARM_UP_SECONDS = 300.0
"""Longest a first verdict may take."""

_GREETING = (Message(Role.USER, "Hi"), Message(Role.ASSISTANT, "Hi"))


async def warm_up(moderator: Moderator) -> None:
    """Judge a greeting by every policy, in both phases.

    Raises:
        ConfigurationError: The model gives no verdict.
    """
    longest = min(len(_GREETING), moderator.limits.max_messages)
    try:
        for policy_id in moderator.policies:
            for num_messages in range(1, longest + 1):
                await _judge_in_the_end(moderator, _GREETING[:num_messages], policy_id)
    except ModerationError as error:
        raise ConfigurationError(f"the model gives no verdicts: {error}") from error


async def _judge_in_the_end(
    moderator: Moderator, conversation: Conversation, policy_id: str
) -> None:
    """A cold model may need longer than a request may wait; the next try finds it warmer."""
    give_up_at = time.monotonic() + WARM_UP_SECONDS
    while True:
        try:
            await moderator.moderate(conversation, policy_id=policy_id)
        except DeadlineExceeded:
            if time.monotonic() > give_up_at:
                raise
        else:
            return
