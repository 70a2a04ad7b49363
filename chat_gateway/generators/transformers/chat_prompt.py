"""Messages into the model's own prompt, in which content is only ever text."""

import threading
from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from chat_gateway.chat import ChatMessage, InvalidChat
from guard_service.moderation import ConfigurationError, Role

# The tokenizer marks content with these two and drops them from it, so a prompt that holds them
# would not be the text that was judged.
_MARKS = ("\U000f0000", "\U000f0001")


class ChatPrompts:
    """A model's chat template and vocabulary.

    Raises:
        ConfigurationError: there is no template, or content could become control tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        if not isinstance(tokenizer.chat_template, str):
            raise ConfigurationError("model: it has no chat template, so it is no chat model")
        self._tokenizer = tokenizer
        self._encoding = threading.Lock()  # the tokenizer is switched back and forth while it works
        self._verify()

    def check(self, messages: Sequence[ChatMessage]) -> None:
        """Refuse messages that no prompt can be made of, or not without a change.

        Raises:
            InvalidChat: says which.
        """
        if not messages:
            raise InvalidChat("messages", "must not be empty")
        for message in messages:
            if message.role is Role.TOOL or message.tool_calls or message.tool_call_id:
                raise InvalidChat("messages", "this model has no tools, so none can have answered")
            if message.name is not None:
                raise InvalidChat("messages", "this model knows no names of participants")
            if any(mark in message.content for mark in _MARKS):
                raise InvalidChat("messages", "must not hold U+F0000 or U+F0001")

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Token ids of the prompt, up to where the answer begins. Thread-safe.

        Raises:
            InvalidChat: the model's template has no place for such messages.
        """
        turns = [{"role": turn.role.value, "content": turn.content} for turn in messages]
        try:
            with self._encoding:
                ids = self._tokenizer.apply_chat_template(
                    turns,
                    add_generation_prompt=True,
                    sanitize_control_tokens=True,
                    return_dict=False,
                )
        except (TemplateError, ValueError, TypeError):
            # The cause may quote the messages.
            raise InvalidChat(
                "messages", "this model's template has no place for this order of roles or text"
            ) from None
        return [int(token) for token in ids]

    def _verify(self) -> None:
        """Ask for every control token in a message, and see that the prompt gets none from it."""
        named = self._tokenizer.added_tokens_decoder
        control = {int(token_id) for token_id, token in named.items() if token.special}
        names = "".join(f" a{token.content}" for token in named.values() if token.special)
        counts = {
            sum(token in control for token in self.encode([ChatMessage(Role.USER, content)]))
            for content in ("Hello", names)
        }
        if len(counts) > 1:
            raise ConfigurationError("model: its tokenizer reads control tokens in content")
