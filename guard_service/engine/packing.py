"""Packed forwards: many sequences in one flat run of tokens, never padded.

The model's own layers do the work (so adapters, quantised weights, RoPE variants and device maps
need no code here); only its attention is replaced, by one that keeps the sequences apart, lets
each look back on what was computed before, and hands out the new keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

from guard_service.engine.key_values import KeyValues

ATTENTION = "guard_packed"
"""Name under which the attention below is known to transformers."""


@dataclass(frozen=True, slots=True)
class PackedSequence:
    """New tokens of one sequence, and the runs (oldest first) it looks back on."""

    tokens: Sequence[int]
    past: tuple[KeyValues, ...] = ()

    @property
    def num_past_tokens(self) -> int:
        """Tokens that were computed before."""
        return sum(run.num_tokens for run in self.past)


@dataclass(slots=True)
class _Packing:
    """What the attention needs to know of the batch, and what it collects on the way."""

    sequences: Sequence[PackedSequence]
    borders: list[int]
    masks: list[Tensor | None]
    new: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PackedOutput:
    """Final hidden states [new tokens, hidden_size] of one sequence, and its new run."""

    hidden: Tensor
    run: KeyValues


def forward(model: LlamaForCausalLM, sequences: Sequence[PackedSequence]) -> list[PackedOutput]:
    """Run the body of `model` over the new tokens of all sequences at once."""
    device = model.get_input_embeddings().weight.device
    borders = list(accumulate((len(s.tokens) for s in sequences), initial=0))
    packing = _Packing(sequences, borders, [_mask(s, model.dtype, device) for s in sequences])
    positions = [
        torch.arange(s.num_past_tokens, s.num_past_tokens + len(s.tokens)) for s in sequences
    ]
    hidden = model.model(
        input_ids=torch.tensor([[t for s in sequences for t in s.tokens]], device=device),
        position_ids=torch.cat(positions)[None].to(device),
        use_cache=False,
        packing=packing,
    ).last_hidden_state[0]
    return [
        PackedOutput(
            hidden[start:stop],
            KeyValues(tuple((k[:, start:stop], v[:, start:stop]) for k, v in packing.new)),
        )
        for start, stop in pairwise(borders)
    ]


def _mask(sequence: PackedSequence, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Additive causal mask [new tokens, past + new tokens]; None where plain causality does."""
    if not sequence.past:
        return None
    num_new, num_past = len(sequence.tokens), sequence.num_past_tokens
    mask = torch.full((num_new, num_past + num_new), float("-inf"), dtype=dtype, device=device)
    return mask.triu_(diagonal=num_past + 1)


def _attend(
    module: LlamaAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - the packing has a mask per sequence
    *,
    packing: _Packing,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of transformers' interface: states are [1, heads, tokens, head_dim]."""
    packing.new.append((key[0], value[0]))
    output = torch.empty_like(query)
    spans = pairwise(packing.borders)
    for sequence, mask, (start, stop) in zip(packing.sequences, packing.masks, spans, strict=True):
        past = [run.layers[module.layer_idx] for run in sequence.past]
        output[:, :, start:stop] = scaled_dot_product_attention(
            query[:, :, start:stop],
            torch.cat([*(k for k, _ in past), key[0, :, start:stop]], dim=1)[None],
            torch.cat([*(v for _, v in past), value[0, :, start:stop]], dim=1)[None],
            attn_mask=mask if mask is None else mask.to(query.device),
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=True,
        )
    return output.transpose(1, 2), None


AttentionInterface.register(ATTENTION, _attend)
