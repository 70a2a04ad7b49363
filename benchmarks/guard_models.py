"""The models that benchmarks run on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from guard_service.embedded import ADAPTER, ensure
from guard_service.engine.loading import ModelSpec, load_engine
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.observer import NullObserver
from guard_service.prompt_formats import FORMATS
from guard_service.settings import ModelSettings

FORMAT = FORMATS["llama-guard-2"]


@dataclass(frozen=True, slots=True)
class PlainModel:
    """The same weights in plain transformers."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase

    @property
    def body_flops_per_token(self) -> int:
        """Of the matrix products in the layers; attention and head are not counted."""
        config = self.model.config
        kv_width = config.num_key_value_heads * config.head_dim
        attention = 2 * config.hidden_size * (config.num_attention_heads * config.head_dim)
        attention += 2 * config.hidden_size * kv_width
        mlp = 3 * config.hidden_size * config.intermediate_size
        return 2 * config.num_hidden_layers * (attention + mlp)


def embedded_folder() -> Path:
    """The base model of the embedded guard, fetched if it is not there yet."""
    return ensure(ModelSettings().cache_dir)


def embedded_engine() -> TransformersEngine:
    """The embedded guard, loaded as the service loads it; call `use_threads` after it."""
    spec = ModelSpec(
        model=str(embedded_folder()),
        adapter=ADAPTER,
        device="cpu",
        dtype="float32",
        num_threads=torch.get_num_threads(),
    )
    return load_engine(spec, FORMAT, NullObserver())


def embedded_plain() -> PlainModel:
    """The embedded guard in plain transformers, adapter merged, fp32."""
    folder = embedded_folder()
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().eval()
    return PlainModel(model, AutoTokenizer.from_pretrained(folder))
