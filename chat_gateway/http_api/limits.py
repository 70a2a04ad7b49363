"""The limits of the HTTP API."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Largest request that is accepted. Every refusal names its limit.

    `max_body_seconds` is how long a body may take to arrive, `max_chat_seconds` and
    `max_moderation_seconds` how long an answer may take from there on, `max_unread_seconds` how
    long a client may leave a piece of it unread.
    """

    max_body_bytes: int = 1_048_576
    max_body_seconds: float = 30.0
    max_messages: int = 100
    max_choices: int = 8
    max_instances: int = 8
    max_moderation_inputs: int = 64
    max_chat_seconds: float = 300.0
    max_moderation_seconds: float = 30.0
    max_unread_seconds: float = 30.0
