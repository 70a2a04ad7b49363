"""The models that benchmarks run on."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from guard_service.embedded import ADAPTER, PROMPT_FORMAT, ensure
from guard_service.engine.loading import ModelSpec, load_engine
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.observer import NullObserver
from guard_service.prompt_formats import FORMATS, PromptFormat
from guard_service.settings import ModelSettings, load
from tests.models import SMOLLM2_135M, Shape, llama_guard_2_tokenizer, random_llama

FORMAT = FORMATS["llama-guard-2"]
EMBEDDED_FORMAT = FORMATS[PROMPT_FORMAT]
LLAMA3_VOCABULARY = 128_256

RANDOM_SHAPES = {
    "random 135M": replace(SMOLLM2_135M, vocabulary=LLAMA3_VOCABULARY),
    "random 12M": Shape(hidden=384, layers=8, heads=6, kv_heads=2, head_dim=64, mlp=1024),
}
"""Llamas with the Llama 3 vocabulary, named by the parameters of their layers or nearly so."""


@dataclass(frozen=True, slots=True)
class PlainModel:
    """The same weights in plain transformers, and the format of the prompts they are given."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    prompt_format: PromptFormat

    @property
    def body_flops_per_token(self) -> int:
        """Of the matrix products in the layers; attention and head are not counted."""
        layers: int = sum(
            parameter.numel()
            for layer in self.model.model.layers
            for parameter in layer.parameters()
            if parameter.dim() == 2
        )
        return 2 * layers


def embedded_folder() -> Path:
    """The base model of the embedded guard, fetched if it is not there yet."""
    return ensure(load(ModelSettings).cache_dir)


def embedded_engine() -> TransformersEngine:
    """The embedded guard, loaded as the service loads it; call `use_threads` after it."""
    return _engine(embedded_folder(), ADAPTER, EMBEDDED_FORMAT)


def embedded_plain() -> PlainModel:
    """The embedded guard in plain transformers, adapter merged, fp32."""
    folder = embedded_folder()
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().eval()
    return PlainModel(model, AutoTokenizer.from_pretrained(folder), EMBEDDED_FORMAT)


def random_pair(shape: Shape, scratch: Path) -> tuple[TransformersEngine, PlainModel]:
    """A Llama of this shape whose answers mean nothing, for speed alone: engine and plain."""
    tokenizer = llama_guard_2_tokenizer()
    model = random_llama(1, shape)
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    return _engine(scratch, None, FORMAT), PlainModel(model, tokenizer, FORMAT)


def _engine(folder: Path, adapter: Path | None, prompt_format: PromptFormat) -> TransformersEngine:
    spec = ModelSpec(
        model=str(folder),
        adapter=adapter,
        device="cpu",
        dtype="float32",
        num_threads=torch.get_num_threads(),
    )
    return load_engine(spec, prompt_format, NullObserver())
