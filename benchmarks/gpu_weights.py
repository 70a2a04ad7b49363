"""A Llama of the true shape with random weights, made on the device, that speaks in verdicts.

Speed does not depend on the values of weights, but what is asked of a model depends on what it
says: one that answers with noise would never be read, stop by itself, or list a category. So the
head is written such that greedy answers are verdicts that depend on the conversation, 30 % of them
unsafe, most with one category. It works as in `tests.models`, on the device and from token ids.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.gpu_subject import Prompts, llama
from guard_service.engine.answer import Tokens
from guard_service.engine.packing import ATTENTION, PackedSequence, forward

ALLOWED = 12.0  # logit of a token the grammar allows next; the noise of all others stays below 6
VERDICT_SPREAD, NUMBER_SPREAD, END_SPREAD = 2.5, 2.0, 1.0
UNSAFE_SHARE = 0.3
NUM_OTHERS = 16
END_HABIT = 1.5  # how much likelier a list ends than goes on, as a logit


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The size of a Llama with the Llama 3 vocabulary."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int = 128_256


SHAPES = {
    "8b": Shape(hidden=4096, layers=32, heads=32, kv_heads=8, mlp=14336),
    "tiny": Shape(hidden=128, layers=2, heads=4, kv_heads=2, mlp=256),
}


def llama_config(shape: Shape, *, bos: int, eos: int | list[int]) -> LlamaConfig:
    """The configuration of a Llama 3 of this shape."""
    return LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
        initializer_range=shape.hidden**-0.5,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=None,
    )


@torch.no_grad()
def speaking_llama(
    shape: Shape, prompts: Prompts, *, device: str, dtype: torch.dtype, seed: int = 1
) -> LlamaForCausalLM:
    """A Llama whose plain greedy decoding of these prompts is a verdict; its attention is ours."""
    torch.manual_seed(seed)
    config = llama_config(shape, bos=prompts.names.prefix[0], eos=list(prompts.terminators))
    with torch.device(device):
        model = llama(config, ATTENTION, dtype)
        speakers = _speakers(prompts, shape.hidden)
        embedding = model.model.embed_tokens.weight
        embedding.normal_()
        for token, direction in speakers.items():
            embedding[token] = (direction * shape.hidden**0.5).to(dtype)
        _keep_free(model, torch.stack(list(speakers.values())))
        states = _read_answers(model, prompts)
        constants = [read.mean(0) for read in (*states.values(), *_read_others(model, prompts))]
        basis = torch.linalg.qr(torch.stack([*speakers.values(), *constants]).T)[0]
        rows = torch.randn(shape.vocabulary, shape.hidden) / shape.hidden**0.5
        rows[[*speakers, *prompts.terminators]] = 0.0
        bar = _give_opinions(rows, states, basis, prompts)
        _allow(rows, states, speakers, prompts, bar)
        model.lm_head.weight.copy_(rows)
    return model


def _speakers(prompts: Prompts, hidden: int) -> dict[int, Tensor]:
    """A direction of its own for every token that another one of an answer follows."""
    grammar = prompts.grammar
    numbers = [number for (number,) in grammar.numbers]
    opening, separator = grammar.opening, grammar.separator
    ids = dict.fromkeys(
        (prompts.names.suffix[-1], *prompts.safe_word, *opening, *separator, *numbers)
    )
    directions = torch.linalg.qr(torch.randn(hidden, len(ids)))[0].T
    return dict(zip(ids, directions, strict=True))


def _keep_free(model: LlamaForCausalLM, directions: Tensor) -> None:
    """Stop every layer from writing along `directions`."""
    for layer in model.model.layers:
        for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
            written = projection.weight.float()
            projection.weight.copy_(written - directions.T @ (directions @ written))


def _read_answers(model: LlamaForCausalLM, prompts: Prompts) -> dict[int, Tensor]:
    """What the head reads after the prompt and after each token of an answer, [times, hidden]."""
    grammar, rng = prompts.grammar, random.Random(1)
    read: dict[int, list[Tensor]] = {}
    for number, body in enumerate(prompts.bodies):
        prompt = (*prompts.names.prefix, *body, *prompts.names.suffix)
        first, second = rng.sample(grammar.numbers, 2)
        unsafe = (*grammar.opening, *first, *grammar.separator, *second)
        answer = prompts.safe_word if number % 4 == 0 else unsafe
        rows = _read(model, (*prompt, *answer), 1 + len(answer))
        for token, row in zip((prompt[-1], *answer), rows, strict=True):
            read.setdefault(token, []).append(row)
    return {token: torch.stack(rows) for token, rows in read.items()}


def _read_others(model: LlamaForCausalLM, prompts: Prompts) -> list[Tensor]:
    """What the head reads after the prompts of each other scaffold."""
    described, stream = prompts.described, prompts.stream_scaffold
    asked = [(*described.prefix, *b, *described.suffix) for b in prompts.bodies[:NUM_OTHERS]]
    streamed = [(*stream.prefix, *body, *stream.suffix) for body in prompts.stream]
    return [torch.cat([_read(model, prompt, 1) for prompt in whole]) for whole in (asked, streamed)]


def _read(model: LlamaForCausalLM, tokens: Tokens, num_positions: int) -> Tensor:
    """Final states at the last positions of a text."""
    [output] = forward(model, [PackedSequence(tokens)])
    return output.hidden[-num_positions:].float()


def _give_opinions(
    rows: Tensor, states: Mapping[int, Tensor], basis: Tensor, prompts: Prompts
) -> float:
    """Random readings of the conversation, blind to `basis`: what does not depend on it.

    Returns the value of the verdict from which on it is unsafe.
    """
    grammar = prompts.grammar
    numbers = [number for (number,) in grammar.numbers]

    def opinions(count: int, read: Tensor, spread: float) -> Tensor:
        drawn = torch.randn(count, rows.shape[1])
        drawn -= drawn @ basis @ basis.T
        scaled: Tensor = drawn * (spread / (read @ drawn.T).std(0))[:, None]
        return scaled

    prompt_ends = states[prompts.names.suffix[-1]]
    before_number = torch.cat([states[grammar.opening[-1]], states[grammar.separator[0]]])
    after_number = torch.cat([states[number] for number in numbers])
    [verdict] = opinions(1, prompt_ends, VERDICT_SPREAD)
    rows[grammar.opening[0]], rows[prompts.safe_word[0]] = verdict / 2, -verdict / 2
    rows[numbers] = opinions(len(numbers), before_number, NUMBER_SPREAD)
    ends = [grammar.terminators[0], grammar.separator[0]]
    rows[ends] = opinions(2, after_number, END_SPREAD)
    bar: float = (prompt_ends @ verdict).quantile(1 - UNSAFE_SHARE).item()
    return bar


def _allow(
    rows: Tensor,
    states: Mapping[int, Tensor],
    speakers: Mapping[int, Tensor],
    prompts: Prompts,
    bar: float,
) -> None:
    """Raise what may follow a token of an answer above everything else."""
    grammar, [safe] = prompts.grammar, prompts.safe_word
    prompt_end, unsafe, letter = prompts.names.suffix[-1], *grammar.opening[::2]
    numbers, separator = [number for (number,) in grammar.numbers], grammar.separator[0]
    end = grammar.terminators[0]
    allowed = [
        (prompt_end, unsafe, ALLOWED - bar / 2),
        (prompt_end, safe, ALLOWED + bar / 2),
        (safe, end, ALLOWED),
        *((token, following, ALLOWED) for token, following in pairwise(grammar.opening)),
        *((before, number, ALLOWED) for before in (letter, separator) for number in numbers),
        *((number, end, ALLOWED + END_HABIT) for number in numbers),
        *((number, separator, ALLOWED) for number in numbers),
    ]
    for token, following, logit in allowed:
        rows[following] += logit / float((states[token] @ speakers[token]).mean()) * speakers[token]
