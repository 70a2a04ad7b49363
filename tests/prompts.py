"""Short ways to say a conversation, and to read a prompt back as one string."""

from guard_service.moderation import Conversation, Message, Role
from guard_service.prompt_formats.prompt import BeginningOfText, Piece, Prompt, SpecialToken

BEGIN_OF_TEXT = "<|begin_of_text|>"


def said(*messages: tuple[str, str]) -> Conversation:
    """`said(("user", "Hi"), ("assistant", "Hello"))`."""
    return tuple(Message(Role(role), content) for role, content in messages)


def alternating(*contents: str) -> Conversation:
    """Turns of user and assistant in turn, beginning with the user."""
    roles = (Role.USER, Role.ASSISTANT)
    return tuple(Message(roles[index % 2], content) for index, content in enumerate(contents))


def text_of(prompt: Prompt) -> str:
    """The prompt as one string, control tokens by name."""
    return "".join(map(_piece_text, (*prompt.prefix, prompt.body, *prompt.suffix)))


def _piece_text(piece: Piece) -> str:
    match piece:
        case BeginningOfText():
            return BEGIN_OF_TEXT
        case SpecialToken(name):
            return name
        case str():
            return piece
