"""What a conversation must be like before anything is spent on it."""

from guard_service.limits import Limits
from guard_service.moderation import Conversation, InvalidRequest


def validate(conversation: Conversation, limits: Limits, *, growing: bool = False) -> None:
    """Refuse what cannot be judged; the last message of a `growing` conversation may be empty.

    Raises:
        InvalidRequest: names the field and the limit.
    """
    if not conversation:
        raise InvalidRequest("conversation.messages", "at least one message is needed")
    if len(conversation) > limits.max_messages:
        raise InvalidRequest(
            "conversation.messages",
            f"{len(conversation)} messages; at most {limits.max_messages} (max_messages)",
        )
    num_bytes = 0
    for i, message in enumerate(conversation):
        field = f"conversation.messages[{i}].content"
        num_bytes += content_bytes(field, message.content)
        if not message.content.strip() and not (growing and i == len(conversation) - 1):
            raise InvalidRequest(field, "must not be empty or blank")
    require_size("conversation.messages", num_bytes, limits)


def content_bytes(field: str, content: str) -> int:
    """UTF-8 length of a text that may be judged.

    Raises:
        InvalidRequest: for NUL and for lone surrogates, which no well-formed text holds.
    """
    if "\0" in content:
        raise InvalidRequest(field, "must not contain NUL (U+0000)")
    try:
        return len(content.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(field, "must not contain lone surrogates") from None


def require_size(field: str, num_bytes: int, limits: Limits) -> None:
    """Refuse more text than the limit allows.

    Raises:
        InvalidRequest: names the field and the limit.
    """
    if num_bytes > limits.max_content_bytes:
        raise InvalidRequest(
            field,
            f"{num_bytes} bytes of UTF-8; at most {limits.max_content_bytes} (max_content_bytes)",
        )
