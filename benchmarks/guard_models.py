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
from guard_service.settings import ModelSettings, load

FORMAT = FORMATS["llama-guard-2"]


@dataclass(frozen=True, slots=True)
class PlainModel:
    """The same weights in plain transformers."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase

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
