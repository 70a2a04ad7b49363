"""What the guard is given to judge: every word a model reads or a client could see."""

from collections.abc import Sequence

from chat_gateway.chat import ChatMessage, GeneratorFailed, InvalidChat
from guard_service.moderation import Conversation, Message, Role

SEPARATOR = "\n\n"
"""Stands between parts of one turn that a client sees apart."""
MAX_REPEATED_CHARACTERS = 1_048_576
"""The most that is read to the guard again because a part of an answer goes on after another."""


def conversation_of(messages: Sequence[ChatMessage]) -> Conversation:
    """The prompt as the guard reads it; messages without anything to judge are left out.

    Raises:
        InvalidChat: if nothing is left, or if the last word is the assistant's: the guard would
            then judge that word as an answer, and what the user asked would go unjudged.
    """
    texts = [(message.role, _text_of(message)) for message in messages]
    conversation = tuple(Message(role, text) for role, text in texts if text.strip())
    if not conversation:
        raise InvalidChat("messages", "at least one must hold text")
    if messages[-1].role is Role.ASSISTANT or conversation[-1].role is Role.ASSISTANT:
        raise InvalidChat("messages", "the last with text must not be the assistant's")
    return conversation


def tool_call_text(name: str, arguments: str) -> str:
    """A tool call in the words the guard reads."""
    return f"{name}({arguments})"


def _text_of(message: ChatMessage) -> str:
    calls = [tool_call_text(call.name, call.arguments) for call in message.tool_calls]
    if not calls:
        return message.content
    return SEPARATOR.join([message.content, *calls] if message.content.strip() else calls)


class Transcript:
    """The judged text of one choice, in order of arrival; it only ever grows.

    Positions are in code points from its start.
    """

    def __init__(self) -> None:
        self._sent: list[str] = []
        self._unsent: list[str] = []
        self._kind = ""
        self._began = 0
        self._spans: dict[str, slice] = {}
        self._num_repeated = 0
        self.num_characters = 0
        self.num_sent = 0
        self.is_blank = True

    @property
    def text(self) -> str:
        """All of it."""
        return "".join((*self._sent, *self._unsent))

    @property
    def num_unsent(self) -> int:
        """Code points the guard has not been given yet."""
        return self.num_characters - self.num_sent

    def append(self, kind: str, text: str) -> None:
        """Add text; where its `kind` differs from the last one's, a blank line goes between.

        A kind that was there before is repeated first: a client reads its pieces as one.

        Raises:
            GeneratorFailed: that would have to be done too often.
        """
        if kind != self._kind:
            text = self._change_to(kind) + text
        self._unsent.append(text)
        self.num_characters += len(text)
        self.is_blank = self.is_blank and not text.strip()

    def _change_to(self, kind: str) -> str:
        """What stands between the last text and the next one of this kind."""
        self._spans[self._kind] = slice(self._began, self.num_characters)
        again = self.text[self._spans[kind]] if kind in self._spans else ""
        self._num_repeated += len(again)
        if self._num_repeated > MAX_REPEATED_CHARACTERS:
            raise GeneratorFailed("the model went back and forth in its answer too often")
        separator = SEPARATOR if self.num_characters else ""
        self._kind, self._began = kind, self.num_characters + len(separator)
        return separator + again

    def take_unsent(self) -> str:
        """What the guard has not been given yet; it counts as given from now on."""
        text = "".join(self._unsent)
        self._unsent.clear()
        if text:
            self._sent.append(text)  # joined, because a string per token takes several times more
        self.num_sent = self.num_characters
        return text
