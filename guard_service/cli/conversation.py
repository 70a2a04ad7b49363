"""Read the conversation a user wants judged."""

import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from guard_service.moderation import Conversation, InvalidRequest, Message

_CONVERSATION = TypeAdapter(tuple[Message, ...])


def read_conversation(file: str) -> Conversation:
    """The messages in a JSON file, or on standard input for `-`.

    Raises:
        InvalidRequest: it cannot be read, or is not a list of `{"role", "content"}` objects.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest("conversation", f"cannot read '{file}': {error}") from error
    try:
        return _CONVERSATION.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in first["loc"])
        raise InvalidRequest(f"conversation{place}", first["msg"]) from None
