"""Requests of realistic length: log-normal, 20 to 300 tokens, median about 60, 30 % unsafe."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from guard_service.engine.protocol import Judgement
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.moderation import Conversation, Message, ModerationError, Role
from guard_service.policy import Policy, default_policy
from guard_service.prompt_formats import FORMATS, PromptFormat
from tests.conversations import HARMFUL_QUESTIONS, QUESTIONS, everyday_text

MEDIAN_TOKENS, SPREAD = 60, 0.75
MIN_TOKENS, MAX_TOKENS = 20, 300
UNSAFE_SHARE = 0.3

NAMES = default_policy("llama-guard-2")
DESCRIBED = replace(NAMES, id="llama-guard-2-described", descriptions_in_prompt=True)


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation, and the whole prompt it makes under one policy."""

    conversation: Conversation
    policy: Policy

    def prompt(self, prompt_format: PromptFormat) -> str:
        """The prompt as one string; the embedded model was trained without a BOS."""
        rendered = prompt_format.render(self.conversation, self.policy)
        pieces = (*rendered.prefix, rendered.body, *rendered.suffix)
        return "".join(piece for piece in pieces if isinstance(piece, str))

    def judgement(self, engine: TransformersEngine) -> Judgement:
        """What the engine is given, tokenised now."""
        prompt_format = FORMATS[engine.info.prompt_format]
        return Judgement(
            engine.encode(prompt_format.render(self.conversation, self.policy)),
            len(self.policy.categories),
            self.policy.lowest_threshold,
        )


def conversations(engine: TransformersEngine, count: int, seed: int) -> list[Conversation]:
    """So many user messages, of which the guard itself finds the wanted share unsafe."""
    num_unsafe = round(count * UNSAFE_SHARE)
    wanted = {True: num_unsafe, False: count - num_unsafe}
    chosen: list[Conversation] = []
    engine.prepare(len(NAMES.categories))
    for conversation in islice(_drawn(engine, seed), 50 * count):
        [scores] = engine.score([Request(conversation, NAMES).judgement(engine)])
        if isinstance(scores, ModerationError):
            continue
        unsafe = scores.unsafe_probability >= NAMES.lowest_threshold
        if wanted[unsafe]:
            wanted[unsafe] -= 1
            chosen.append(conversation)
        if len(chosen) == count:
            break
    random.Random(seed).shuffle(chosen)
    return chosen


def text_of_length(
    engine: TransformersEngine,
    num_tokens: int,
    rng: random.Random,
    templates: Sequence[str] = QUESTIONS,
) -> str:
    """Everyday text of so many tokens."""
    text = everyday_text(rng, templates)
    while len(ends := engine.token_ends(text)) < num_tokens:
        text = f"{text} {everyday_text(rng, templates)}"
    return text[: ends[num_tokens - 1]]


def _drawn(engine: TransformersEngine, seed: int) -> Iterator[Conversation]:
    rng = random.Random(seed)
    while True:
        length = round(MEDIAN_TOKENS * rng.lognormvariate(0, SPREAD))
        num_tokens = min(max(length, MIN_TOKENS), MAX_TOKENS)
        templates = HARMFUL_QUESTIONS if rng.random() < UNSAFE_SHARE else QUESTIONS
        yield (Message(Role.USER, text_of_length(engine, num_tokens, rng, templates)),)
