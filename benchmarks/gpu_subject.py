"""What `benchmarks.gpu` asks, in token ids, and the one set of weights it asks twice."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from guard_service.engine.answer import (
    AnswerGrammar,
    Tokens,
    VerdictWords,
    answer_grammar,
    verdict_words,
)
from guard_service.engine.protocol import Judgement, Scores, Segments
from guard_service.engine.transformers_engine import AnswerStyle, TransformersEngine
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import ModelInfo, ModerationError
from guard_service.observer import NullObserver

CODE_LETTER = "S"
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Scaffold:
    """Token ids around a body."""

    prefix: Tokens
    suffix: Tokens


class RecordedVocabulary:
    """What a vocabulary made of the few answers that the engine asks it to encode."""

    def __init__(
        self,
        answers: Mapping[str, Sequence[int]],
        source: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        """`source`, where there is one, is asked for what has not been recorded yet."""
        self.answers = {text: tuple(tokens) for text, tokens in answers.items()}
        self._source = source

    def encode_text(self, text: str) -> Tokens:
        """Token ids of an answer."""
        if self._source is not None and text not in self.answers:
            self.answers[text] = tuple(self._source(text))
        return self.answers[text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Everything that is judged, in token ids. `stream` holds the bodies of one growing answer."""

    answers: Mapping[str, Tokens]
    terminators: Tokens
    num_categories: int
    names: Scaffold
    described: Scaffold
    bodies: Sequence[Tokens]
    stream_scaffold: Scaffold
    stream: Sequence[Tokens]

    @classmethod
    def load(cls, file: Path) -> Self:
        """What `save` has written."""
        plain = json.loads(file.read_text(encoding="utf-8"))
        plain["answers"] = {text: tuple(ids) for text, ids in plain["answers"].items()}
        for name in ("names", "described", "stream_scaffold"):
            plain[name] = Scaffold(**{k: tuple(ids) for k, ids in plain[name].items()})
        for name in ("bodies", "stream"):
            plain[name] = [tuple(ids) for ids in plain[name]]
        plain["terminators"] = tuple(plain["terminators"])
        return cls(**plain)

    def save(self, file: Path) -> None:
        """Write them as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @property
    def words(self) -> VerdictWords:
        """The verdict words of this vocabulary."""
        return verdict_words(RecordedVocabulary(self.answers).encode_text, spaced=False)

    @property
    def safe_word(self) -> Tokens:
        """The token of `safe` without a space before it."""
        return self.answers["safe"]

    @property
    def grammar(self) -> AnswerGrammar:
        """How this vocabulary writes lists."""
        return answer_grammar(
            RecordedVocabulary(self.answers).encode_text,
            code_letter=CODE_LETTER,
            num_categories=self.num_categories,
            terminators=self.terminators,
            spaced=False,
        )

    def judgement(self, scaffold: Scaffold, body: Tokens) -> Judgement:
        """What the engine is given."""
        segments = Segments(scaffold.prefix, body, scaffold.suffix)
        return Judgement(segments, self.num_categories, THRESHOLD)


@dataclass(frozen=True, slots=True)
class Subject:
    """The same weights, not copies of them, in this engine and in plain transformers."""

    model: LlamaForCausalLM
    plain: LlamaForCausalLM
    engine: TransformersEngine
    prompts: Prompts

    @classmethod
    def around(cls, model: LlamaForCausalLM, prompts: Prompts) -> Self:
        """Both on the weights of `model`."""
        with torch.device("meta"):
            plain = llama(model.config, "sdpa", model.dtype)
        plain.load_state_dict(model.state_dict(keep_vars=True), assign=True)
        # Its tables are no part of the state, so they would stay on the meta device.
        plain.model.rotary_emb = model.model.rotary_emb
        style = AnswerStyle(
            prompts.words, CODE_LETTER, spaced=False, terminators=prompts.terminators
        )
        engine = TransformersEngine(
            model,
            cast("Vocabulary", RecordedVocabulary(prompts.answers)),
            ModelInfo("random", "none", "llama-guard-2"),
            style=style,
            max_context_tokens=8192,
            prefix_cache_bytes=2**30,
            session_cache_bytes=2**30,
            observer=NullObserver(),
        )
        engine.prepare(prompts.num_categories)
        return cls(model, plain, engine, prompts)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.lm_head.weight.device
        return device

    @property
    def layer_parameters(self) -> int:
        """Weights that every token of a forward is multiplied with."""
        return sum(weight.numel() for weight in self.model.model.layers.parameters())

    @property
    def weight_bytes(self) -> int:
        """What a forward has to read at least once: the layers and the head."""
        head = self.model.lm_head.weight
        num_bytes: int = (self.layer_parameters + head.numel()) * head.element_size()
        return num_bytes

    def score(self, scaffold: Scaffold, bodies: Sequence[Tokens]) -> list[Scores | ModerationError]:
        """What this engine says, asked for all at once."""
        return self.engine.score([self.prompts.judgement(scaffold, body) for body in bodies])

    @torch.inference_mode()
    def generate(
        self, scaffold: Scaffold, bodies: Sequence[Tokens], max_new_tokens: int, **wanted: bool
    ) -> Any:
        """What plain `generate` makes of it, padded on the left where there are several prompts."""
        filler = self.prompts.terminators[0]
        prompts = [
            torch.tensor((*scaffold.prefix, *body, *scaffold.suffix), device=self.device)
            for body in bodies
        ]
        longest = max(len(prompt) for prompt in prompts)
        ids = pad_sequence(prompts, batch_first=True, padding_value=filler, padding_side="left")
        lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=self.device)
        mask = torch.arange(longest, device=self.device) >= longest - lengths
        return self.plain.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=list(self.prompts.terminators),
            pad_token_id=filler,
            **wanted,
        )


def llama(config: LlamaConfig, attention: str, dtype: torch.dtype) -> LlamaForCausalLM:
    """A Llama to be run, with a configuration of its own because that names the attention."""
    copy = LlamaConfig.from_dict(config.to_dict())
    model = AutoModelForCausalLM.from_config(copy, attn_implementation=attention, dtype=dtype)
    return cast("LlamaForCausalLM", model.eval().requires_grad_(requires_grad=False))
