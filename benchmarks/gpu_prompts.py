"""Write the prompts of `benchmarks.gpu` as token ids, for a machine without tokenizer or network.

Run as `python -m benchmarks.gpu_prompts FILE`. The ids are those of the real Llama 3 vocabulary in
the Llama Guard 2 format. The answers that reading a verdict needs encoded are written along.
"""

import random
from pathlib import Path

import typer

from benchmarks.gpu_subject import CODE_LETTER, Prompts, RecordedVocabulary, Scaffold
from benchmarks.guard_models import FORMAT
from benchmarks.workload import (
    DESCRIBED,
    MAX_TOKENS,
    MEDIAN_TOKENS,
    MIN_TOKENS,
    NAMES,
    SPREAD,
)
from guard_service.engine.answer import answer_grammar, verdict_words
from guard_service.engine.protocol import Segments
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import Conversation, Message, Role
from guard_service.policy import Policy
from tests.conversations import ANSWERS, HARMFUL_QUESTIONS, QUESTIONS, everyday_text
from tests.models import llama_guard_2_tokenizer

STREAM = range(200, 401, 20)
"""Tokens of the answer at each check of the stream."""

TERMINATORS = ("<|end_of_text|>", "<|eot_id|>")


def text_of_length(
    vocabulary: Vocabulary, num_tokens: int, rng: random.Random, templates: tuple[str, ...]
) -> str:
    """Everyday text of so many tokens."""
    text = everyday_text(rng, templates)
    while len(ends := vocabulary.token_ends(text)) < num_tokens:
        text = f"{text} {everyday_text(rng, templates)}"
    return text[: ends[num_tokens - 1]]


def conversations(vocabulary: Vocabulary, count: int, rng: random.Random) -> list[Conversation]:
    """So many user messages, with the lengths of `benchmarks.workload`."""
    drawn: list[Conversation] = []
    for number in range(count):
        length = round(MEDIAN_TOKENS * rng.lognormvariate(0, SPREAD))
        num_tokens = min(max(length, MIN_TOKENS), MAX_TOKENS)
        templates = QUESTIONS if number % 2 else HARMFUL_QUESTIONS
        drawn.append((Message(Role.USER, text_of_length(vocabulary, num_tokens, rng, templates)),))
    return drawn


def growing_answer(vocabulary: Vocabulary, rng: random.Random) -> list[Conversation]:
    """One conversation at every check of its growing answer."""
    question = Message(Role.USER, "Tell me a long story about the sea.")
    answer = text_of_length(vocabulary, STREAM[-1], rng, ANSWERS)
    ends = vocabulary.token_ends(answer)
    return [(question, Message(Role.ASSISTANT, answer[: ends[size - 1]])) for size in STREAM]


def main(file: Path, *, count: int = 64, seed: int = 1) -> None:
    """Write the prompts of so many conversations and of one stream to FILE."""
    tokenizer = llama_guard_2_tokenizer()
    vocabulary = Vocabulary.from_pretrained_tokenizer(tokenizer)
    rng = random.Random(seed)
    asked = conversations(vocabulary, count, rng)
    stream = growing_answer(vocabulary, rng)

    def segments(conversation: Conversation, policy: Policy) -> Segments:
        return vocabulary.encode(FORMAT.render(conversation, policy))

    def scaffold(conversation: Conversation, policy: Policy) -> Scaffold:
        encoded = segments(conversation, policy)
        return Scaffold(encoded.prefix, encoded.suffix)

    recorded = RecordedVocabulary({}, source=vocabulary.encode_text)
    verdict_words(recorded.encode_text, spaced=False)
    terminators = tuple(vocabulary.special_id(name) for name in TERMINATORS)
    num_categories = len(NAMES.categories)
    answer_grammar(
        recorded.encode_text,
        code_letter=CODE_LETTER,
        num_categories=num_categories,
        terminators=terminators,
        spaced=False,
    )
    Prompts(
        answers=recorded.answers,
        terminators=terminators,
        num_categories=num_categories,
        names=scaffold(asked[0], NAMES),
        described=scaffold(asked[0], DESCRIBED),
        bodies=[segments(each, NAMES).body for each in asked],
        stream_scaffold=scaffold(stream[0], NAMES),
        stream=[segments(each, NAMES).body for each in stream],
    ).save(file)


if __name__ == "__main__":
    typer.run(main)
