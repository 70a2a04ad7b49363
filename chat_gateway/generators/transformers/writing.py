"""The model at work: one prompt in, the text of each choice out, token by token."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LlamaForCausalLM, StoppingCriteria

from chat_gateway.chat import (
    ChoiceFinished,
    FinishReason,
    GeneratorEvent,
    GeneratorFailed,
    TextDelta,
    TokenUsage,
)
from chat_gateway.generators.transformers.stop_strings import StopStrings
from chat_gateway.generators.transformers.whole_characters import WholeCharacters

Emit = Callable[[GeneratorEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How to draw an answer, with nothing left open. A temperature of 0 takes the likeliest."""

    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    seed: int | None = None
    num_choices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaWriter:
    """A model, its terminators, and optionally a smaller one that drafts for it.

    With `static_cache_tokens` the cache has that fixed length, and on a GPU each step is compiled.
    """

    model: LlamaForCausalLM
    decode: Callable[[Sequence[int]], str]
    terminators: tuple[int, ...]
    draft: LlamaForCausalLM | None = None
    static_cache_tokens: int | None = None

    def write(
        self, prompt: Sequence[int], draw: Draw, emit: Emit, is_cancelled: Callable[[], bool]
    ) -> None:
        """Write every choice; `is_cancelled` is asked after each step of the model.

        Raises:
            GeneratorFailed: it was cancelled.
        """
        torch.manual_seed(secrets.randbits(63) if draw.seed is None else draw.seed)
        choices = [_Choice(index, self, draw, emit) for index in range(draw.num_choices)]
        for group in self._groups(choices):
            self._write_together(group, prompt, draw, is_cancelled)
        num_written = sum(choice.num_tokens for choice in choices)
        emit(TokenUsage(len(prompt), num_written))

    def _groups(self, choices: list["_Choice"]) -> list[list["_Choice"]]:
        """Drafting takes one at a time; a compiled step is compiled for one."""
        one_at_a_time = self.draft is not None or self.static_cache_tokens is not None
        return [[choice] for choice in choices] if one_at_a_time else [choices]

    def _write_together(
        self,
        choices: list["_Choice"],
        prompt: Sequence[int],
        draw: Draw,
        is_cancelled: Callable[[], bool],
    ) -> None:
        ids = torch.tensor([prompt] * len(choices), device=self.model.device)
        drafting: dict[str, Any] = {} if self.draft is None else {"assistant_model": self.draft}
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=self._configuration(draw),
            stopping_criteria=[_Progress(choices, len(prompt), is_cancelled)],
            **drafting,
        )
        if is_cancelled():
            raise GeneratorFailed("the model was stopped")
        for choice in choices:
            choice.finish(FinishReason.LENGTH)

    def _configuration(self, draw: Draw) -> GenerationConfig:
        options: dict[str, Any] = {"do_sample": False}
        if draw.temperature > 0:
            options = {"do_sample": True, "temperature": draw.temperature, "top_p": draw.top_p}
            options["top_k"] = 0  # or the library's own default of 50 would apply
        if self.static_cache_tokens is not None:
            options["cache_implementation"] = "static"
            options["max_cache_len"] = self.static_cache_tokens
        return GenerationConfig(
            max_new_tokens=draw.max_tokens,
            eos_token_id=list(self.terminators),
            pad_token_id=self.terminators[0],
            **options,
        )


class _Choice:
    """One answer as it grows."""

    def __init__(self, index: int, writer: LlamaWriter, draw: Draw, emit: Emit) -> None:
        self.num_tokens = 0
        self.is_finished = False
        self._index = index
        self._terminators = writer.terminators
        self._characters = WholeCharacters(writer.decode)
        self._stops = StopStrings(draw.stop)
        self._emit = emit

    def add(self, tokens: Sequence[int]) -> None:
        """Take the next tokens, up to what ends the answer."""
        for token in tokens:
            if self.is_finished:
                return
            self.num_tokens += 1
            if token in self._terminators:
                self.finish(FinishReason.STOP)
                return
            self._say(self._stops.push(self._characters.push(token)))
            if self._stops.met:
                self.finish(FinishReason.STOP)

    def finish(self, reason: FinishReason) -> None:
        """Say what was held and end the choice, unless it has ended already."""
        if self.is_finished:
            return
        self.is_finished = True
        self._say(self._stops.push(self._characters.finish()))
        self._say(self._stops.finish())
        self._emit(ChoiceFinished(self._index, FinishReason.STOP if self._stops.met else reason))

    def _say(self, text: str) -> None:
        if text:
            self._emit(TextDelta(self._index, text))


class _Progress(StoppingCriteria):  # type: ignore[misc]
    """Hands each new token to its choice, and tells the model which choices are done.

    A streamer would learn of a token only after it was decided to go on; here a stop string ends
    the choice with the token that completes it, drafted tokens come several at a time, and a
    cancelled answer costs no further token.
    """

    def __init__(
        self, choices: list[_Choice], num_read: int, is_cancelled: Callable[[], bool]
    ) -> None:
        self._choices = choices
        self._num_read = num_read
        self._is_cancelled = is_cancelled

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        del scores, kwargs
        rows = input_ids[:, self._num_read :].tolist()
        self._num_read = input_ids.shape[1]
        if self._is_cancelled():
            return torch.ones(len(rows), dtype=torch.bool, device=input_ids.device)
        for choice, tokens in zip(self._choices, rows, strict=True):
            choice.add(tokens)
        done = [choice.is_finished for choice in self._choices]
        return torch.tensor(done, device=input_ids.device)
