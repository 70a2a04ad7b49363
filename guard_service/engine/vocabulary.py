"""From prompts to token ids: the scaffold may hold control tokens, content never can."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Self

from tokenizers import Tokenizer

from guard_service.engine.protocol import Segments
from guard_service.moderation import ConfigurationError, Message, Role
from guard_service.policy import Policy
from guard_service.prompt_formats import PromptFormat
from guard_service.prompt_formats.prompt import BeginningOfText, Piece, Prompt, SpecialToken

_LLAMA_BOS = frozenset({"<|begin_of_text|>", "<s>"})
_MAX_CACHED_SCAFFOLDS = 256
_PROBES = ("Hello", "12", "?!", "(a)", "\u4f60\u597d", "\U0001f600", "e\u0301", "\u2581", "x\ny")


class Vocabulary:
    """A tokenizer of its own, in which text is only ever text. Thread-safe; releases the GIL.

    `bos_id` is what `BeginningOfText` stands for; None where the model was trained without one.
    """

    def __init__(self, tokenizer: Tokenizer, *, bos_id: int | None) -> None:
        settings = json.loads(tokenizer.to_str())
        settings.update(truncation=None, padding=None, post_processor=None)
        mid_prompt = _without_dummy_prefix(settings)
        self._opening = _text_only(settings)
        self._continuing = self._opening if mid_prompt == settings else _text_only(mid_prompt)
        self._bos = () if bos_id is None else (bos_id,)
        self._control_ids = {
            token.content: int(token_id)
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        cached = lru_cache(maxsize=_MAX_CACHED_SCAFFOLDS)
        self._prefix_tokens = cached(self._opening_tokens)
        self._suffix_tokens = cached(self._continuing_tokens)

    @classmethod
    def from_pretrained_tokenizer(cls, tokenizer: Any) -> Self:
        """The vocabulary of a Hugging Face tokenizer; only a Llama's own BOS starts prompts.

        Raises:
            ConfigurationError: it has no fast (Rust) implementation.
        """
        if not tokenizer.is_fast:
            raise ConfigurationError("the model folder has no tokenizer.json, which is needed")
        starts_texts = tokenizer.bos_token in _LLAMA_BOS
        bos_id = tokenizer.bos_token_id if starts_texts else None
        return cls(tokenizer.backend_tokenizer, bos_id=bos_id)

    def encode(self, prompt: Prompt) -> Segments:
        """Token ids of a prompt; the pieces together are those of the whole string."""
        return Segments(
            prefix=self._prefix_tokens(prompt.prefix),
            body=self._body_tokens(prompt),
            suffix=self._suffix_tokens(prompt.suffix),
        )

    def encode_text(self, text: str) -> list[int]:
        """Token ids of text inside a prompt; the name of a control token is plain text."""
        return _ids(self._continuing, text)

    def token_ends(self, text: str) -> list[int]:
        """For each token, how many characters of `text` are whole once it has been read."""
        [encoding] = self._continuing.encode_batch([text], add_special_tokens=False)
        starts = [start for start, _ in encoding.offsets]
        # Not a token's own end: a character split over several is whole only with the last.
        return [*starts[1:], len(text)][: len(starts)]

    def special_id(self, name: str) -> int:
        """The id of a control token.

        Raises:
            ConfigurationError: the vocabulary has no control token of that name.
        """
        try:
            return self._control_ids[name]
        except KeyError:
            raise ConfigurationError(
                f"the model's vocabulary has no control token {name}, "
                "so it cannot be asked in this prompt format"
            ) from None

    def verify(self, prompt_format: PromptFormat, policy: Policy) -> None:
        """Check at load that this vocabulary may be trusted with prompts of a format.

        Raises:
            ConfigurationError: it lacks a control token, reads one in content, or the pieces of a
                prompt do not give the tokens of the whole.
        """
        for name, control_id in self._control_ids.items():
            if control_id in self.encode_text(name):
                raise ConfigurationError(f"this tokenizer reads {name} in content as control token")
        for text in _PROBES:
            asked = Message(Role.USER, text)
            for conversation in ((asked,), (asked, Message(Role.ASSISTANT, text))):
                self._compare_with_whole(prompt_format.render(conversation, policy))

    def _compare_with_whole(self, prompt: Prompt) -> None:
        segments = self.encode(prompt)
        text = f"{prompt.prefix[-1]}{prompt.body}{prompt.suffix[0]}"
        whole = self._opening_tokens((*prompt.prefix[:-1], text, *prompt.suffix[1:]))
        if (*segments.prefix, *segments.body, *segments.suffix) != whole:
            raise ConfigurationError(
                "this tokenizer joins text across the prompt's cut: "
                "it belongs to no model this prompt format was made for"
            )

    def _body_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """The body's tokens as they stand before the suffix, whose first character is looked at.

        Some tokenizers split the blank line that ends the body by what comes after it.
        """
        following = prompt.suffix[0]
        lookahead = following[:1] if isinstance(following, str) else ""
        tokens = self.encode_text(prompt.body + lookahead)
        return tuple(tokens[: len(tokens) - len(lookahead)])

    def _opening_tokens(self, pieces: Sequence[Piece]) -> tuple[int, ...]:
        return tuple(self._tokens(pieces, self._opening))

    def _continuing_tokens(self, pieces: Sequence[Piece]) -> tuple[int, ...]:
        return tuple(self._tokens(pieces, self._continuing))

    def _tokens(self, pieces: Sequence[Piece], tokenizer: Tokenizer) -> Iterator[int]:
        """Only the first text is `tokenizer`'s; the others continue what stands before them."""
        for piece in pieces:
            match piece:
                case SpecialToken(name):
                    yield self.special_id(name)
                case BeginningOfText():
                    yield from self._bos
                case str(text):
                    yield from _ids(tokenizer, text)
                    tokenizer = self._continuing


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    # `encode` holds the GIL while it works; the batch calls do not.
    [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return list(encoding.ids)


def _text_only(settings: dict[str, Any]) -> Tokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _without_dummy_prefix(settings: Any) -> Any:
    """Tokenizer settings under which a text does not begin with a space it does not have.

    SentencePiece puts one before a whole text; a piece from its middle must not get another.
    """
    match settings:
        case {"type": "Metaspace"}:
            return {**settings, "prepend_scheme": "never"}
        case {"type": "ByteLevel"}:
            return {**settings, "add_prefix_space": False}
        case {"type": "Prepend"}:
            return {"type": "Sequence", "normalizers": []}
        case {"type": "Sequence"}:
            return {
                key: [_without_dummy_prefix(part) for part in value]
                if isinstance(value, list)
                else value
                for key, value in settings.items()
            }
        case {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}:
            return {
                **settings,
                "normalizer": _without_dummy_prefix(normalizer),
                "pre_tokenizer": _without_dummy_prefix(pre_tokenizer),
            }
        case _:
            return settings
