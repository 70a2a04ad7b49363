"""The model in training: a base with a LoRA adapter, asked behind a shared policy prompt."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, LlamaForCausalLM

from guard_service.pretrained import Placement, load_adapter
from guard_service.tuning.forwards import IGNORED, Forward

ADAPTED_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def placement_of(dtype: str, device: str, quantisation: str) -> Placement:
    """Where and in what numbers to train; `auto` is bf16 where there are units for it."""
    placement = Placement(dtype=dtype, device=device, quantisation=quantisation)
    if dtype != "auto":
        return placement
    on_cpu = placement.resolved_device() == "cpu"
    is_fast = not on_cpu or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return replace(placement, dtype="bfloat16" if is_fast else "float32")


def with_lora(llama: LlamaForCausalLM, *, rank: int, go_on_from: Path | None) -> PeftModel:
    """The model with a LoRA adapter on all its linear layers to train.

    Raises:
        ConfigurationError: there is no adapter to go on from, or it does not fit the model.
    """
    if go_on_from is not None:
        model = load_adapter(llama, go_on_from, trainable=True)
    else:
        layers = LoraConfig(
            r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM", target_modules=list(ADAPTED_LAYERS)
        )
        model = get_peft_model(llama, layers)
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            # Autocast makes inputs bf16 again; making them fp32 before only copies them twice.
            layer.cast_input_dtype_enabled = False
    return model


def save_adapter(model: PeftModel, folder: Path, *, base_name: str) -> None:
    """Write the adapter as a server loads it: bf16, with its configuration; it is for that base."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    file = folder / "adapter_model.safetensors"
    save_file(
        {name: each.detach().to("cpu", torch.bfloat16) for name, each in tensors.items()}, file
    )
    file.chmod(0o644)  # safetensors lets only the owner read it, and servers run as somebody else
    configuration = copy(model.active_peft_config)
    configuration.base_model_name_or_path = base_name
    configuration.inference_mode = True
    configuration.save_pretrained(folder)


def answer_states(llama: Any, forward: Forward) -> Tensor:
    """Final hidden states [examples, width, hidden size] of a forward's rows.

    The prefix is computed once, with its gradient, and looked back on by every row.
    """
    device = llama.model.embed_tokens.weight.device
    num_prefix, (num_rows, width) = len(forward.prefix), forward.ids.shape
    positions = torch.arange(num_prefix, num_prefix + width, device=device)
    # By position: transformers 5.24 gave the cache another name.
    states: Tensor = llama.model(
        torch.from_numpy(forward.ids).to(device, torch.long),
        _attended(forward, num_prefix).to(device),
        positions.expand(num_rows, -1),
        _prefix_cache(llama, forward.prefix, num_rows),
        use_cache=True,
    ).last_hidden_state
    return states


def answer_loss(llama: Any, forward: Forward, *, verdict_weight: float) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of the answers, and that of the verdicts alone (without gradient)."""
    hidden = answer_states(llama, forward)[:, :-1]
    labels = torch.from_numpy(forward.labels).to(hidden.device, torch.long)[:, 1:]
    taught = labels != IGNORED
    first = taught.int().argmax(1, keepdim=True)
    is_verdict = torch.zeros_like(taught).scatter_(1, first, 1)[taught]
    losses = cross_entropy(llama.lm_head(hidden[taught]).float(), labels[taught], reduction="none")
    weights = torch.where(is_verdict, verdict_weight, 1.0)
    return (losses * weights).sum() / weights.sum(), losses.detach()[is_verdict].mean()


@torch.no_grad()
def unsafe_probabilities(
    llama: Any, forward: Forward, *, safe: Sequence[int], unsafe: Sequence[int]
) -> list[float]:
    """P(unsafe) of each row, from the logits of the first verdict tokens."""
    hidden = answer_states(llama, forward)
    labels = torch.from_numpy(forward.labels).to(hidden.device)
    before_verdict = (labels != IGNORED).int().argmax(1) - 1
    asked = hidden[torch.arange(len(hidden), device=hidden.device), before_verdict]
    logits = llama.lm_head(asked).float()
    masses = [logits[:, list(ids)].logsumexp(1) for ids in (unsafe, safe)]
    return torch.sigmoid(masses[0] - masses[1]).tolist()


def _attended(forward: Forward, num_prefix: int) -> Tensor:
    """Attention mask [examples, prefix + width]: all but the padding."""
    places = torch.arange(-num_prefix, forward.ids.shape[1])
    return (places < torch.from_numpy(forward.lengths)[:, None]).long()


def _prefix_cache(llama: Any, prefix: Sequence[int], num_rows: int) -> DynamicCache:
    cache = DynamicCache(config=llama.config)
    device = llama.model.embed_tokens.weight.device
    llama.model(torch.tensor([prefix], device=device), None, None, cache, use_cache=True)
    cache.batch_repeat_interleave(num_rows)
    return cache
