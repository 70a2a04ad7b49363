"""The limits of a request, checked before anything is spent on it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest request that is accepted. Every refusal names the limit it hit.

    `max_content_bytes` counts the UTF-8 bytes of all messages of a conversation together.
    `max_windows` is how many context windows a conversation may be split into; 1 refuses any
    text that does not fit the model's context whole.
    """

    max_messages: int = 100
    max_content_bytes: int = 262_144
    max_windows: int = 16
    max_batch_conversations: int = 64
    max_streams: int = 256
    max_wait_seconds: float = 30.0
