"""What all parts of one answer have in common."""

import time
import uuid
from dataclasses import dataclass, field

from chat_gateway.chat import TokenUsage
from chat_gateway.http_api.chat_reply import Usage

NO_END = "the model's answer has no end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Identity of an answer and what was asked to come with it."""

    model: str
    num_choices: int
    with_usage: bool
    with_moderation: bool
    with_detail: bool
    silent: bool
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))


def usage_reply(usage: TokenUsage) -> Usage:
    """The generator's count as clients read it."""
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
