"""Train the guard-mini adapter: LoRA on the embedded base model, Llama Guard 2 prompt and answer.

    python benchmarks/train_guard_mini.py --data FOLDER --output FOLDER --minutes 60

`--data` holds `*.jsonl.gz` files in the row format of `guard-service evaluate`. The prompts are
rendered and tokenised by the code that serves them. The policy prefix is computed once per step
without gradient and its keys and values are shared by the batch, so a step costs the conversations
and the suffix alone.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard_service import embedded
from guard_service.engine.vocabulary import Vocabulary
from guard_service.evaluation.rows import Row, read_rows
from guard_service.moderation import Role
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from guard_service.settings import ModelSettings, load

import torch  # isort: skip - after the engine package, which sets how OpenMP threads wait
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

BATCH_SIZE = 16
BATCHES_PER_POOL = 4
LEARNING_RATE = 4e-4
WARM_UP_STEPS = 20
MAX_CHARACTERS = 520
FIRST_TOKEN_WEIGHT = 3.0
IGNORED = -100
ADAPTED_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

FORMAT = FORMATS[embedded.PROMPT_FORMAT]
POLICY = default_policy(embedded.PROMPT_FORMAT)


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one row: the shared prefix, then conversation and suffix, then the answer."""

    prefix: tuple[int, ...]
    question: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """What the row adds to a step: all but the prefix."""
        return len(self.question) + len(self.answer)


class Examples:
    """Draws rows by the square root of their source's size, safe and unsafe half and half."""

    def __init__(self, rows: Sequence[Row], vocabulary: Vocabulary, end_token: int) -> None:
        self._vocabulary = vocabulary
        self._end_token = end_token
        self._pools: dict[tuple[str, str], dict[str, list[Row]]] = {}
        for row in filter(_is_suitable, rows):
            pool = self._pools.setdefault((row.role, row.label), {})
            pool.setdefault(row.source.split("/")[0], []).append(row)

    def batches(self) -> Iterator[list[Example]]:
        """Batches without end, each of one role and of similar lengths."""
        while True:
            pool = [batch for role in ("user", "user", "agent") for batch in self._pool(role)]
            random.shuffle(pool)
            yield from pool

    def _pool(self, role: str) -> list[list[Example]]:
        drawn = [self._example(self._draw(role)) for _ in range(BATCH_SIZE * BATCHES_PER_POOL)]
        drawn.sort(key=lambda example: example.num_tokens)
        return [drawn[i : i + BATCH_SIZE] for i in range(0, len(drawn), BATCH_SIZE)]

    def _draw(self, role: str) -> Row:
        sources = self._pools[role, random.choice(["safe", "unsafe"])]
        weights = [math.sqrt(len(rows)) for rows in sources.values()]
        [rows] = random.choices(list(sources.values()), weights)
        return random.choice(rows)

    def _example(self, row: Row) -> Example:
        segments = self._vocabulary.encode(FORMAT.render(row.messages, POLICY))
        return Example(segments.prefix, segments.body + segments.suffix, self._answer(row))

    def _answer(self, row: Row) -> tuple[int, ...]:
        """What the guard should say; after an unsafe of unknown categories nothing is taught."""
        if not row.unsafe:
            return (*self._vocabulary.encode_text("safe"), self._end_token)
        if not row.categories:
            return tuple(self._vocabulary.encode_text("unsafe"))
        listed = "unsafe\n" + ",".join(row.categories)
        return (*self._vocabulary.encode_text(listed), self._end_token)


def _is_suitable(row: Row) -> bool:
    """Short, and begun by the user: a prompt that the Agent begins has another prefix."""
    num_characters = sum(len(message.content) for message in row.messages)
    return num_characters <= MAX_CHARACTERS and row.messages[0].role is Role.USER


def loss_of(model: Any, batch: Sequence[Example]) -> torch.Tensor:
    """Cross-entropy of the answers; the first token, which is the verdict, weighs most."""
    num_prefix, width = len(batch[0].prefix), max(example.num_tokens for example in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), IGNORED)
    mask = torch.zeros(len(batch), num_prefix + width, dtype=torch.long)
    for row, example in enumerate(batch):
        start, stop = len(example.question), example.num_tokens
        ids[row, :stop] = torch.tensor(example.question + example.answer)
        labels[row, start:stop] = torch.tensor(example.answer)
        mask[row, : num_prefix + stop] = 1
    positions = torch.arange(num_prefix, num_prefix + width).expand(len(batch), -1)
    hidden = model.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=_prefix_keys_and_values(model, batch),
        use_cache=True,
    ).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    taught = targets != IGNORED
    first = torch.zeros_like(taught)
    first[torch.arange(len(batch)), taught.int().argmax(dim=1)] = True
    weights = torch.where(first[taught], FIRST_TOKEN_WEIGHT, 1.0)
    logits = model.lm_head(hidden[taught])
    losses = torch.nn.functional.cross_entropy(logits, targets[taught], reduction="none")
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def _prefix_keys_and_values(model: Any, batch: Sequence[Example]) -> DynamicCache:
    """Those of the policy prompt, repeated over the batch."""
    cache = DynamicCache(config=model.config)
    model.model(input_ids=torch.tensor([batch[0].prefix]), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(batch))
    return cache


def adapted_model(base: Path, resume: Path | None) -> Any:
    """The base model with a LoRA adapter to train: a new one, or the one in `resume`."""
    layers = LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM", target_modules=ADAPTED_LAYERS)
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(whole, layers)
    if resume is not None:
        set_peft_model_state_dict(model, load_file(resume / "adapter_model.safetensors"))
    return model


def train(model: Any, batches: Iterator[list[Example]], *, seconds: float, max_steps: int) -> None:
    """Take steps until the time or their number is used up; the rate falls to near zero."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    began = time.monotonic()
    for step, batch in zip(range(max_steps), batches, strict=False):
        done = max((time.monotonic() - began) / seconds, step / max_steps)
        if done >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * max(0.02, 1 - done)
        loss = loss_of(model.get_base_model(), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        print(f"{done:5.1%}, step {step + 1}, loss {loss.item():.3f}", flush=True)


def main() -> None:
    """Read the arguments, train, save the adapter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of *.jsonl.gz rows")
    parser.add_argument("--output", type=Path, required=True, help="folder for the adapter")
    parser.add_argument("--resume", type=Path, help="folder of an adapter to go on from")
    parser.add_argument("--minutes", type=float, default=60, help="longest training time")
    parser.add_argument("--max-steps", type=int, default=100_000, help="largest number of steps")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    torch.manual_seed(given.seed)
    base = embedded.ensure(load(ModelSettings).cache_dir)
    tokenizer = AutoTokenizer.from_pretrained(base)
    vocabulary = Vocabulary.from_pretrained_tokenizer(tokenizer)
    rows = read_rows(sorted(given.data.glob("*.jsonl.gz")))
    examples = Examples(rows, vocabulary, tokenizer.eos_token_id)
    model = adapted_model(base, given.resume)
    train(model, examples.batches(), seconds=given.minutes * 60, max_steps=given.max_steps)
    model.save_pretrained(given.output)


if __name__ == "__main__":
    main()
