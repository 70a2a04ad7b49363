"""The text of a message, given whole or in parts."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag


class Strict(BaseModel):
    """Takes the declared fields in the declared types and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _text_only(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind not in ("text", "refusal"):
        raise ValueError("only text can be judged; images, audio and files are refused")
    return part


class TextPart(Strict):
    """A piece of text."""

    type: Literal["text"]
    text: str


Part = Annotated[TextPart, BeforeValidator(_text_only)]


def _shape(given: Any) -> str:
    return "<parts>" if isinstance(given, list) else "<text>"


Text = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Tag("<parts>")], Discriminator(_shape)
]
"""A string, or a list of text parts."""


def joined(text: str | list[TextPart] | None) -> str:
    """All of a text as one string; parts are kept apart by a line break."""
    if isinstance(text, list):
        return "\n".join(part.text for part in text)
    return text or ""


def shape_of(kinds: dict[type, str], otherwise: str) -> Callable[[Any], str]:
    """A discriminator by the JSON type of a value."""

    def shape(given: Any) -> str:
        return next((tag for kind, tag in kinds.items() if isinstance(given, kind)), otherwise)

    return shape
