"""One-forward verdicts on the weights of a transformers Llama.

A batch runs `body + suffix + forced answer` of all its prompts in one packed forward behind their
cached prefixes. The verdict and the first category are read from that forward; the further
categories of an unsafe text take short steps on top of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from guard_service.engine.answer import AnswerGrammar, VerdictWords, answer_grammar
from guard_service.engine.category_list import CategoryList
from guard_service.engine.device_faults import device_fault
from guard_service.engine.head import Head
from guard_service.engine.key_values import KeyValueCache, KeyValues
from guard_service.engine.packing import PackedSequence, forward
from guard_service.engine.protocol import Judgement, Scores, Segments
from guard_service.engine.reading import (
    Logits,
    VerdictReading,
    number_distribution,
    require_whole_word,
    unsafe_probability,
)
from guard_service.engine.session import KeyValueSession
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import ModelInfo, ModerationError, OutOfMemory, UnreadableVerdict
from guard_service.observer import Observer
from guard_service.prompt_formats.prompt import Prompt

MAX_CHUNK_TOKENS = 2048
"""A longer sequence is prefilled in chunks of at most this many tokens, to bound peak memory."""


@dataclass(frozen=True, slots=True)
class AnswerStyle:
    """How a model writes its answers."""

    words: VerdictWords
    code_letter: str
    spaced: bool
    terminators: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    """One judgement on its way through the engine.

    `runs` stand behind the prefix: the start of the body a session knows already, then what is
    computed here.
    """

    judgement: Judgement
    session: KeyValueSession | None
    grammar: AnswerGrammar
    prefix: KeyValues
    runs: list[KeyValues]
    num_cached_tokens: int

    @property
    def remaining(self) -> tuple[int, ...]:
        """Tokens behind the prefix that are still to be computed."""
        segments, answer = self.judgement.segments, (*self.grammar.opening, *self.grammar.trunk)
        tokens = (*segments.body, *segments.suffix, *answer)
        return tokens[sum(run.num_tokens for run in self.runs) :]

    def next_sequence(self, num_tokens: int) -> PackedSequence:
        """The next so many of the remaining tokens, behind all that is known."""
        return PackedSequence(self.remaining[:num_tokens], (self.prefix, *self.runs))

    def wants_list(self, scores: Scores) -> bool:
        """Whether the text may be unsafe under some threshold of its policy."""
        return scores.unsafe_probability >= self.judgement.list_threshold

    def start_list(self, nodes: Sequence[Logits], likeliest: Sequence[int]) -> CategoryList:
        """The list with its first number; everything but the trunk stands before it."""
        *runs, last = self.runs
        opened = last.between(0, last.num_tokens - len(self.grammar.trunk))
        category_list = CategoryList(self.grammar, (self.prefix, *runs, opened))
        category_list.write(nodes, likeliest)
        return category_list


class TransformersEngine:
    """Scores prompts with a `LlamaForCausalLM` whose attention is `packing.ATTENTION`."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        vocabulary: Vocabulary,
        info: ModelInfo,
        *,
        style: AnswerStyle,
        max_context_tokens: int,
        prefix_cache_bytes: int,
        session_cache_bytes: int,
        observer: Observer,
    ) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._info = info
        self._style = style
        self._head = Head(model.lm_head.weight.detach(), style.words)
        self._grammars: dict[int, AnswerGrammar] = {}
        self._max_context_tokens = max_context_tokens
        self._prefixes = KeyValueCache(prefix_cache_bytes)
        self._sessions = KeyValueCache(session_cache_bytes)
        self._observer = observer

    @property
    def info(self) -> ModelInfo:
        """Which weights judge."""
        return self._info

    @property
    def max_context_tokens(self) -> int:
        """Longest prompt in tokens; room for the longest answer is already set aside."""
        longest_answer = max((g.max_tokens for g in self._grammars.values()), default=0)
        return self._max_context_tokens - longest_answer

    def prepare(self, num_categories: int) -> None:
        """Work out how lists of so many categories are written.

        Raises:
            ConfigurationError: if this vocabulary cannot express them.
        """
        self._grammars[num_categories] = answer_grammar(
            self._vocabulary.encode_text,
            code_letter=self._style.code_letter,
            num_categories=num_categories,
            terminators=self._style.terminators,
            spaced=self._style.spaced,
        )
        self._head.learn(self._grammars[num_categories])

    def encode(self, prompt: Prompt) -> Segments:
        """Token ids of a prompt. Thread-safe."""
        return self._vocabulary.encode(prompt)

    def token_ends(self, text: str) -> list[int]:
        """For each token of `text`, the character offset where it ends. Thread-safe."""
        return self._vocabulary.token_ends(text)

    def open_session(self) -> KeyValueSession:
        """Memory for a growing conversation."""
        return KeyValueSession(self._sessions)

    def score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        """Scores of each judgement, or why there are none, in order.

        Raises:
            OutOfMemory: if the batch does not fit the device.
            EngineLost: if the device has failed for good.
        """
        try:
            return self._score(batch)
        except (RuntimeError, MemoryError) as error:
            fault = device_fault(error)
            if fault is None:
                raise
        # Only here, past the handler, are the failed forward's tensors free.
        if isinstance(fault, OutOfMemory):
            torch.cuda.empty_cache()
        raise fault

    @torch.inference_mode()
    def _score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        works = [self._look_up(judgement) for judgement in batch]
        tails = self._prefill(works)
        roots = [tail[len(work.grammar.opening) :] for work, tail in zip(works, tails, strict=True)]
        verdicts, nodes = self._head.verdicts(tails), self._head.categories(roots)
        results: list[Scores | ModerationError] = [
            _first_scores(self._style.words, *each)
            for each in zip(works, verdicts, nodes, strict=True)
        ]
        unsafe = [
            (i, work, result)
            for i, (work, result) in enumerate(zip(works, results, strict=True))
            if isinstance(result, Scores) and work.wants_list(result)
        ]
        likeliest = self._head.likeliest([roots[i] for i, *_ in unsafe])
        lists: list[tuple[int, Scores, CategoryList]] = []
        for (i, work, first), tokens in zip(unsafe, likeliest, strict=True):
            try:
                lists.append((i, first, work.start_list(nodes[i], tokens)))
            except UnreadableVerdict as error:
                results[i] = error
        self._complete([each for _, _, each in lists])
        for i, first, each in lists:
            results[i] = replace(first, listed=each.listed)
        return results

    def _look_up(self, judgement: Judgement) -> _Work:
        """Find what is known of a prompt; its prefix is computed now if it is new."""
        segments = judgement.segments
        # A session only ever comes back to the engine that opened it.
        session = cast("KeyValueSession | None", judgement.session)
        prefix = self._prefixes.get(segments.prefix)
        num_cached = len(segments.prefix) if prefix else 0
        self._observer.prefix_looked_up(hit=prefix is not None)
        if prefix is None:
            [output] = forward(self._model, [PackedSequence(segments.prefix)])
            prefix = KeyValues.join([output.run], len(segments.prefix))
            self._prefixes.put(segments.prefix, prefix)
        known = session.recall(segments.prefix, segments.body) if session else None
        return _Work(
            judgement,
            session,
            self._grammars[judgement.num_categories],
            prefix,
            [known] if known else [],
            num_cached + (known.num_tokens if known else 0),
        )

    def _prefill(self, works: Sequence[_Work]) -> list[Tensor]:
        """Compute what remains; per work, hidden states from the verdict position on."""
        for work in works:
            while (num_chunks := math.ceil(len(work.remaining) / MAX_CHUNK_TOKENS)) > 1:
                size = math.ceil(len(work.remaining) / num_chunks)
                [output] = forward(self._model, [work.next_sequence(size)])
                work.runs.append(output.run)
        outputs = forward(self._model, [work.next_sequence(MAX_CHUNK_TOKENS) for work in works])
        for work, output in zip(works, outputs, strict=True):
            work.runs.append(output.run)
            if work.session is not None:
                segments = work.judgement.segments
                work.session.remember(segments.prefix, segments.body, work.runs)
        return [
            output.hidden[-1 - len(work.grammar.opening) - len(work.grammar.trunk) :]
            for work, output in zip(works, outputs, strict=True)
        ]

    def _complete(self, lists: Sequence[CategoryList]) -> None:
        """Step all lists together until each has come to its end."""
        while unfinished := [each for each in lists if not each.done]:
            outputs = forward(self._model, [each.next_step for each in unfinished])
            logits = self._head.categories(
                [o.hidden[e.read_from :] for e, o in zip(unfinished, outputs, strict=True)]
            )
            for each, output, decisive in zip(unfinished, outputs, logits, strict=True):
                each.advance(output.run, decisive)


def _first_scores(
    words: VerdictWords, work: _Work, verdict: VerdictReading, nodes: Sequence[Logits]
) -> Scores | UnreadableVerdict:
    """What the first forward says: the verdict and the distribution of the first category."""
    try:
        probability = unsafe_probability(words, verdict)
        distribution = number_distribution(work.grammar, nodes)
        scores = Scores(probability, distribution, num_cached_tokens=work.num_cached_tokens)
        if work.wants_list(scores):
            require_whole_word(words, verdict)
    except UnreadableVerdict as error:
        return error
    return scores
