"""A conversation as Llama Guard reads it: turns of a User and an Agent in plain text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from guard_service.moderation import Conversation, Message, Phase
from guard_service.neutralise import neutralise


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says before the other speaks. `label` is `User` or `Agent`."""

    label: str
    text: str


def turns_of(conversation: Conversation) -> tuple[Turn, ...]:
    """Neighbouring messages of one side become one turn, joined by a blank line.

    Everything the model reads (user, system, tool) is the User's, what it writes is the Agent's.
    The joined text is what is neutralised, so no marker can be spelled across two messages.
    """
    return tuple(
        Turn(label, neutralise("\n\n".join(message.content.strip() for message in messages)))
        for label, messages in groupby(conversation, key=_label)
    )


def body_of(turns: Sequence[Turn]) -> str:
    """The turns as text, less the first label: that one ends the prompt's prefix."""
    first, *others = turns
    labelled = (f"{turn.label}: {turn.text}\n\n" for turn in others)
    return "".join((f" {first.text}\n\n", *labelled))


def _label(message: Message) -> str:
    return "Agent" if Phase.of(message.role) is Phase.RESPONSE else "User"
