"""Load a model, its adapter and its vocabulary into an engine; refuse what cannot be trusted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from guard_service.engine.answer import verdict_words
from guard_service.engine.fingerprint import fingerprint
from guard_service.engine.packing import ATTENTION, PackedSequence, forward
from guard_service.engine.transformers_engine import AnswerStyle, TransformersEngine
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import ConfigurationError, Message, ModelInfo, Role
from guard_service.observer import Observer
from guard_service.policy import default_policy
from guard_service.pretrained import (
    Placement,
    load_adapter,
    load_llama,
    load_tokenizer,
    model_folder,
    set_up_torch,
)
from guard_service.prompt_formats import PromptFormat

_END_TOKENS = ("<|end_of_text|>", "<|eot_id|>", "</s>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Which weights to load, and how.

    `model` is a folder, or a hub id with its 40-digit `revision`. `name` is what verdicts call it,
    if not by `model`. `dtype`, `device` and `quantisation` are those of a `Placement`.
    """

    model: str
    revision: str | None = None
    adapter: Path | None = None
    name: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    quantisation: str = "none"
    max_context_tokens: int = 8192
    prefix_cache_bytes: int = 2**28
    session_cache_bytes: int = 2**30
    num_threads: int = 0

    @property
    def placement(self) -> Placement:
        """In what numbers the weights are kept, and where."""
        return Placement(dtype=self.dtype, device=self.device, quantisation=self.quantisation)


def load_engine(
    spec: ModelSpec, prompt_format: PromptFormat, observer: Observer
) -> TransformersEngine:
    """An engine on the weights of `spec`.

    Raises:
        ConfigurationError: one line that names what is wrong with the folder, adapter or device.
    """
    set_up_torch(spec.num_threads)
    folder = model_folder(spec.model, spec.revision)
    model = load_llama(folder, spec.placement, attention=ATTENTION)
    if spec.adapter is not None:
        model = _with_adapter(model, spec.adapter, merge=spec.quantisation == "none")
    tokenizer = load_tokenizer(folder)
    vocabulary = Vocabulary.from_pretrained_tokenizer(tokenizer)
    vocabulary.verify(prompt_format, default_policy(prompt_format.name))
    spaced = _answers_with_space(model, vocabulary, prompt_format)
    return TransformersEngine(
        model,
        vocabulary,
        ModelInfo(spec.name or spec.model, _revision(spec, folder), prompt_format.name),
        style=AnswerStyle(
            words=verdict_words(vocabulary.encode_text, spaced=spaced),
            code_letter=prompt_format.code_letter,
            spaced=spaced,
            terminators=_terminators(model, tokenizer),
        ),
        max_context_tokens=min(spec.max_context_tokens, model.config.max_position_embeddings),
        prefix_cache_bytes=spec.prefix_cache_bytes,
        session_cache_bytes=spec.session_cache_bytes,
        observer=observer,
    )


def _with_adapter(model: LlamaForCausalLM, adapter: Path, *, merge: bool) -> LlamaForCausalLM:
    """The model with a PEFT adapter, merged where the weights are plain numbers."""
    adapted = load_adapter(model, adapter)
    whole: Any = adapted.merge_and_unload() if merge else adapted.get_base_model()
    return cast("LlamaForCausalLM", whole.eval())


def _terminators(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Every token that ends an answer, by any of the files that name one."""
    generation: GenerationConfig = model.generation_config
    ids: set[int] = set()
    for named in (generation.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        ids.update(named if isinstance(named, list) else [] if named is None else [named])
    vocabulary = tokenizer.get_vocab()
    ids.update(vocabulary[token] for token in _END_TOKENS if token in vocabulary)
    if not ids:
        raise ConfigurationError("model: no file names the token that ends an answer")
    return tuple(sorted(ids))


@torch.inference_mode()
def _answers_with_space(
    model: LlamaForCausalLM, vocabulary: Vocabulary, prompt_format: PromptFormat
) -> bool:
    """Ask the model once whether it writes ` safe` or `safe`; a split word is never spaced."""
    plain, spaced = (
        [vocabulary.encode_text(f"{lead}{word}") for word in ("safe", "unsafe")]
        for lead in ("", " ")
    )
    if any(len(tokens) != 1 for tokens in (*plain, *spaced)):
        return False
    greeting = (Message(Role.USER, "Hello"),)
    prompt = prompt_format.render(greeting, default_policy(prompt_format.name))
    segments = vocabulary.encode(prompt)
    tokens = (*segments.prefix, *segments.body, *segments.suffix)
    [output] = forward(model, [PackedSequence(tokens)])
    logits = model.lm_head(output.hidden[-1]).float()
    masses = [logits[[ids for [ids] in words]].logsumexp(0) for words in (spaced, plain)]
    return bool(masses[0] > masses[1])


def _revision(spec: ModelSpec, folder: Path) -> str:
    base = spec.revision or fingerprint(folder)
    return base if spec.adapter is None else f"{base}+{fingerprint(spec.adapter)}"
