"""The reference verdict: plain transformers, the model's own chat template, greedy `generate`."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from guard_service.moderation import Conversation
from tests.chat_templates import CHAT_TEMPLATES

MAX_NEW_TOKENS = 40
MAX_CODES = 11  # a model that repeats itself is stopped after one code per category
THRESHOLD = 0.5
ANSWER = re.compile(r" ?(safe|unsafe\n(?P<codes>S([1-9]|10|11)(,S([1-9]|10|11))*))")


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """Ids a verdict may begin with; a vocabulary may know a word with and without a space."""

    safe: tuple[int, ...]
    unsafe: tuple[int, ...]


FIRST_TOKENS = {
    128_256: FirstTokens(safe=(19193, 6220), unsafe=(39257, 20451)),  # Llama 3
    49_152: FirstTokens(safe=(18437,), unsafe=(10082,)),  # SmolLM2, where unsafe is two tokens
}


@dataclass(frozen=True, slots=True)
class ReferenceVerdict:
    """What the model says about a conversation, and how sure it is of the first word."""

    unsafe: bool
    unsafe_probability: float
    codes: tuple[str, ...]
    answer: str


class Reference:
    """A loaded model, one conversation at a time."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._first = FIRST_TOKENS[model.config.vocab_size]

    @classmethod
    def load(
        cls, folder: Path, adapter: Path | None = None, *, prompt_format: str = "llama-guard-2"
    ) -> "Reference":
        """The template is the folder's own; under an adapter that has none, ours."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            tokenizer.chat_template = CHAT_TEMPLATES[prompt_format]
        return cls(model.eval(), tokenizer)

    @torch.inference_mode()
    def judge(self, conversation: Conversation) -> ReferenceVerdict:
        """Raises ValueError when the model speaks outside the verdict grammar."""
        prompt = torch.tensor([chat_prompt_ids(self._tokenizer, conversation)])
        output = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            pad_token_id=self._model.generation_config.eos_token_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
        new_tokens = output.sequences[0, prompt.shape[1] :]
        answer = self._tokenizer.decode(new_tokens, skip_special_tokens=True)
        if len(new_tokens) == MAX_NEW_TOKENS:
            answer = answer.rpartition(",")[0]  # what follows may be half a code
        probability = self._unsafe_probability(output.logits[0][0])
        return ReferenceVerdict(probability >= THRESHOLD, probability, listed_codes(answer), answer)

    def _unsafe_probability(self, logits: torch.Tensor) -> float:
        kept = logits[[*self._first.safe, *self._first.unsafe]].double().softmax(0)
        return float(kept[len(self._first.safe) :].sum())


def chat_prompt_ids(tokenizer: Tokenizer, conversation: Conversation) -> list[int]:
    """The whole prompt tokenised as one string; the published template leaves BOS to the caller."""
    messages = [
        {"role": message.role.value, "content": message.content} for message in conversation
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    return list(tokenizer(text).input_ids)


def listed_codes(answer: str) -> tuple[str, ...]:
    """Violated categories in the order they are first listed; empty for safe."""
    match = ANSWER.fullmatch(answer)
    if match is None:
        raise ValueError("the answer is outside the verdict grammar")
    codes = match["codes"]
    return tuple(dict.fromkeys(codes.split(",")[:MAX_CODES])) if codes else ()
