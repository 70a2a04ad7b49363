"""Random-weight Llamas: some speak the verdict grammar unprompted, some only have a true shape."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from tests.chat_templates import CHAT_TEMPLATES
from tests.conversations import random_conversations
from tests.reference import chat_prompt_ids
from tests.tokenizers import llama3_tokenizer

# Ids of the Llama 3 vocabulary.
PROMPT_END = 60  # the bracket that closes [/INST]
SAFE, SPACED_SAFE = 19193, 6220
UNSAFE, SPACED_UNSAFE = 39257, 20451
NEWLINE, LETTER, COMMA_LETTER, END = 198, 50, 21861, 128001
NUMBERS = (16, 17, 18, 19, 20, 21, 22, 23, 24, 605, 806)
SPEAKERS = (PROMPT_END, SAFE, UNSAFE, NEWLINE, LETTER, COMMA_LETTER, *NUMBERS)

ALLOWED = 60.0  # logit of a token the grammar allows next; others stay far below
SPACED_BELOW = 1.0  # " safe" and " unsafe" trail the middle of "safe" and "unsafe" by this much
VERDICT_SPREAD, NUMBER_SPREAD, END_SPREAD = 2.5, 2.0, 1.5
END_HABIT, END_HABIT_SPREAD = 0.3, 0.6  # how much likelier a list ends than goes on, as a logit
CALIBRATION_SIZE = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The size of a Llama; the vocabulary of a grammatical one is always Llama 3's."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    mlp: int = 128
    vocabulary: int = 128_256
    rope_theta: float = 500_000.0
    context: int = 8192


SMALL = Shape()
WIDE_HEADS = Shape(hidden=96, layers=3, heads=6, kv_heads=2, head_dim=32, rope_theta=10_000.0)
NO_GROUPS = Shape(hidden=128, layers=4, heads=4, kv_heads=4, head_dim=32, mlp=256)
SMOLLM2_135M = Shape(
    hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, mlp=1536, vocabulary=49_152
)


def random_llama(seed: int, shape: Shape, *, tied: bool = True) -> LlamaForCausalLM:
    """A Llama of this shape whose output means nothing: for speed, which values do not change."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=tied,
        initializer_range=shape.hidden**-0.5,
        bos_token_id=128_000 if shape.vocabulary == 128_256 else 1,
        eos_token_id=END if shape.vocabulary == 128_256 else 2,
        pad_token_id=None,
        dtype="float32",
    )
    return LlamaForCausalLM(config).eval()


def save_grammatical_llama(
    folder: Path, seed: int, shape: Shape = SMALL, *, prompt_format: str = "llama-guard-2"
) -> Path:
    """Weights, tokenizer and chat template in `folder`, as a hub download would look."""
    tokenizer = guard_tokenizer(prompt_format)
    grammatical_llama(seed, shape, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def llama_guard_2_tokenizer() -> PreTrainedTokenizerBase:
    return guard_tokenizer("llama-guard-2")


def guard_tokenizer(prompt_format: str) -> PreTrainedTokenizerBase:
    """Llama 3's tokenizer with this format as its chat template, until the next call."""
    tokenizer = llama3_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATES[prompt_format]
    return tokenizer


@torch.inference_mode()
def grammatical_llama(
    seed: int, shape: Shape, tokenizer: PreTrainedTokenizerBase
) -> LlamaForCausalLM:
    """A Llama whose plain greedy decoding of any guard prompt is a well-formed verdict.

    What is said depends on the whole conversation: about half are unsafe, with lists of one to a
    few codes, some repeated. It works because the last token stays readable: the tokens that take
    part in the grammar have orthogonal embeddings, the body never writes along them, and the head
    answers each of them with the tokens that may follow. Everything else is random.
    """
    model = random_llama(seed, shape, tied=False)
    _scatter_norms(model)
    speakers = torch.linalg.qr(torch.randn(shape.hidden, len(SPEAKERS)))[0].T
    model.model.embed_tokens.weight.normal_()
    model.model.embed_tokens.weight[list(SPEAKERS)] = speakers * shape.hidden**0.5
    _keep_free(model, speakers)
    states = _read_answers(model, tokenizer, seed)
    _write_head(model, dict(zip(SPEAKERS, speakers, strict=True)), states)
    return model


def _scatter_norms(model: LlamaForCausalLM) -> None:
    """Norm weights of exactly one would hide a norm that was left out."""
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.copy_(1 + 0.1 * torch.randn_like(parameter))


def _keep_free(model: LlamaForCausalLM, directions: torch.Tensor) -> None:
    """Stop every layer from writing along `directions`."""
    remaining = torch.eye(directions.shape[1]) - directions.T @ directions
    for layer in model.model.layers:
        for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
            projection.weight.copy_(remaining @ projection.weight)


def _read_answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, seed: int
) -> dict[int, torch.Tensor]:
    """What the head will read right after each kind of token, over a sample of conversations.

    Keyed by the token; all numbers are kept together under the first.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for conversation in random_conversations(seed, CALIBRATION_SIZE):
        first, second = torch.randint(len(NUMBERS), (2,), generator=generator).tolist()
        answer = [UNSAFE, NEWLINE, LETTER, NUMBERS[first], COMMA_LETTER, NUMBERS[second]]
        ids = chat_prompt_ids(tokenizer, conversation) + answer
        states = model.model(torch.tensor([ids])).last_hidden_state[0]
        rows.append(states[-len(answer) - 1 :] / model.model.norm.weight)
    end, unsafe, newline, letter, first, comma, second = torch.stack(rows, dim=1)
    by_token = {PROMPT_END: end, UNSAFE: unsafe, NEWLINE: newline}
    return by_token | {LETTER: letter, COMMA_LETTER: comma, NUMBERS[0]: torch.cat([first, second])}


def _write_head(
    model: LlamaForCausalLM, speakers: dict[int, torch.Tensor], states: dict[int, torch.Tensor]
) -> None:
    rows = 0.1 * torch.randn_like(model.lm_head.weight)
    rows[[*SPEAKERS, SPACED_SAFE, SPACED_UNSAFE, END]] = 0.0
    _give_opinions(rows, speakers, states)
    _allow(rows, NEWLINE, speakers[UNSAFE], states[UNSAFE])
    _allow(rows, LETTER, speakers[NEWLINE], states[NEWLINE])
    for token in (SAFE, UNSAFE):
        _allow(rows, token, speakers[PROMPT_END], states[PROMPT_END])
    for token in (SPACED_SAFE, SPACED_UNSAFE):
        _allow(rows, token, speakers[PROMPT_END], states[PROMPT_END], below=SPACED_BELOW)
    for token in NUMBERS:
        for letter in (LETTER, COMMA_LETTER):
            _allow(rows, token, speakers[letter], states[letter])
    _allow_ends(rows, speakers, states)
    model.lm_head.weight.copy_(rows / model.model.norm.weight)


def _give_opinions(
    rows: torch.Tensor, speakers: dict[int, torch.Tensor], states: dict[int, torch.Tensor]
) -> None:
    """Random readings of the conversation, blind to the speakers and to what is always the same."""
    constant = torch.stack([*speakers.values(), *(read.mean(0) for read in states.values())])
    basis = torch.linalg.qr(constant.T)[0]

    def opinions(count: int, read: torch.Tensor, spread: float) -> torch.Tensor:
        drawn = torch.randn(count, rows.shape[1])
        drawn -= drawn @ basis @ basis.T
        return drawn * (spread / (read @ drawn.T).std(0))[:, None]

    letters = torch.cat([states[LETTER], states[COMMA_LETTER]])
    (verdict,) = opinions(1, states[PROMPT_END], VERDICT_SPREAD)
    rows[UNSAFE], rows[SAFE] = verdict / 2, -verdict / 2
    rows[list(NUMBERS)] = opinions(len(NUMBERS), letters, NUMBER_SPREAD)
    rows[[END, COMMA_LETTER]] = opinions(2, states[NUMBERS[0]], END_SPREAD)


def _allow(
    rows: torch.Tensor, token: int, speaker: torch.Tensor, states: torch.Tensor, below: float = 0.0
) -> None:
    """Put the median logit of `token` right after `speaker` at the allowed height, or below it."""
    missing = ALLOWED - below - (states @ rows[token]).median()
    rows[token] += missing / (states @ speaker).mean() * speaker


def _allow_ends(
    rows: torch.Tensor, speakers: dict[int, torch.Tensor], states: dict[int, torch.Tensor]
) -> None:
    """After a number the list ends or goes on: by the conversation, and by the number's habit."""
    numbers = torch.stack([speakers[number] for number in NUMBERS])
    after_number = states[NUMBERS[0]]
    for token in (END, COMMA_LETTER):
        _allow(rows, token, numbers.sum(0), after_number)
    loudness = (after_number @ numbers.sum(0)).mean()
    habits = END_HABIT + END_HABIT_SPREAD * torch.randn(len(NUMBERS))
    rows[END] += (habits @ numbers + ALLOWED * speakers[SAFE]) / loudness
