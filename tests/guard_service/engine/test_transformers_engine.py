"""The engine on real weights: nothing but the text decides, and garbage is never a verdict."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from guard_service.engine import transformers_engine
from guard_service.engine.loading import ModelSpec, load_engine
from guard_service.engine.protocol import Judgement, Scores
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.moderation import UnreadableVerdict
from guard_service.observer import NullObserver
from guard_service.policy import Policy, default_policy
from guard_service.prompt_formats import FORMATS
from tests.conversations import random_conversations
from tests.models import SMALL, llama_guard_2_tokenizer, random_llama, save_grammatical_llama
from tests.prompts import alternating

LLAMA_GUARD_2 = FORMATS["llama-guard-2"]
POLICY = default_policy("llama-guard-2")
FEWER = replace(POLICY, id="fewer", categories=POLICY.categories[3:8], descriptions_in_prompt=True)
ONE = replace(POLICY, id="one", categories=POLICY.categories[:1])
CONVERSATIONS = list(random_conversations(11, 24))


class PrefixTally(NullObserver):
    def __init__(self) -> None:
        self.hits: list[bool] = []

    def prefix_looked_up(self, *, hit: bool) -> None:
        self.hits.append(hit)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_grammatical_llama(tmp_path_factory.mktemp("llama"), seed=5, shape=SMALL)


def load(folder: Path, observer: NullObserver | None = None, **options) -> TransformersEngine:
    spec = ModelSpec(model=str(folder), device="cpu", **options)
    engine = load_engine(spec, LLAMA_GUARD_2, observer or NullObserver())
    for policy in (POLICY, FEWER, ONE):
        engine.prepare(len(policy.categories))
    return engine


@pytest.fixture(scope="module")
def engine(folder: Path) -> TransformersEngine:
    return load(folder)


def judgement(engine: TransformersEngine, conversation, policy: Policy = POLICY, session=None):
    segments = engine.encode(LLAMA_GUARD_2.render(conversation, policy))
    return Judgement(segments, len(policy.categories), policy.lowest_threshold, session)


def assert_same(left: Scores, right: Scores) -> None:
    assert isinstance(left, Scores), left
    assert isinstance(right, Scores), right
    assert left.unsafe_probability == pytest.approx(right.unsafe_probability, abs=1e-5)
    assert left.first_category == pytest.approx(right.first_category, abs=1e-5)
    assert [i for i, _ in left.listed] == [i for i, _ in right.listed]
    assert [p for _, p in left.listed] == pytest.approx([p for _, p in right.listed], abs=1e-5)


def test_policies_of_different_lengths_share_a_batch(engine):
    judgements = [
        judgement(engine, conversation, policy)
        for conversation in CONVERSATIONS[10:18]
        for policy in (POLICY, FEWER, ONE)
    ]

    together = engine.score(judgements)

    judged = [pair for pair in zip(judgements, together, strict=True) if is_scored(pair[1])]
    for each, scores in judged:
        assert len(scores.first_category) == each.num_categories
        assert_same(scores, engine.score([each])[0])
    assert {each.num_categories for each, _ in judged} == {11, 5, 1}
    assert any(len(scores.listed) > 1 for _, scores in judged)


def is_scored(result) -> bool:
    return isinstance(result, Scores)


def test_a_category_the_policy_does_not_have_is_unreadable_never_safe(engine):
    """The model was made for eleven categories and names them whatever the prompt asks about."""
    own = engine.score([judgement(engine, c, FEWER) for c in CONVERSATIONS])
    strange = [result for result in own if not is_scored(result)]

    assert all(isinstance(result, UnreadableVerdict) for result in strange)
    assert {str(result) for result in strange} == {
        "the model names a category that the policy does not have"
    }


def test_a_prefix_that_does_not_fit_the_cache_is_computed_again(folder, engine):
    tally = PrefixTally()
    forgetful = load(folder, tally, prefix_cache_bytes=0)

    for conversation in CONVERSATIONS[:4]:
        [scores] = forgetful.score([judgement(forgetful, conversation)])
        assert_same(scores, engine.score([judgement(engine, conversation)])[0])
        assert scores.num_cached_tokens == 0
    assert tally.hits == [False] * 4


def test_cached_tokens_are_counted(engine):
    conversation = alternating("Tell me a story about a lighthouse.")
    first = judgement(engine, conversation)
    engine.score([first])

    [again] = engine.score([first])

    assert again.num_cached_tokens == len(first.segments.prefix) == 137


def test_a_session_computes_only_what_is_new(engine):
    question = "Tell me about the sea."
    answer = "The sea is wide. It is deep, and full of fish; nobody has counted them"
    session = engine.open_session()
    body: tuple[int, ...] = ()
    for end in (10, 11, 35, 36, 36, len(answer)):
        growing = judgement(engine, alternating(question, answer[:end]), session=session)
        known = len(growing.segments.prefix) if body else 0
        common = next(
            (i for i, (a, b) in enumerate(zip(body, growing.segments.body)) if a != b),  # noqa: B905
            min(len(body), len(growing.segments.body)),
        )
        body = growing.segments.body

        [scores] = engine.score([growing])

        assert scores.num_cached_tokens >= known + common
        assert_same(scores, engine.score([replace(growing, session=None)])[0])
    session.close()


def test_an_evicted_session_costs_time_and_changes_nothing(folder, engine):
    forgetful = load(folder, session_cache_bytes=0)
    session = forgetful.open_session()
    for end in (5, 20, 40):
        growing = alternating("Why?", "Because it is written in the oldest of all books."[:end])
        [scores] = forgetful.score([judgement(forgetful, growing, session=session)])
        assert_same(scores, engine.score([judgement(engine, growing)])[0])


def test_long_texts_are_prefilled_in_chunks_with_the_same_result(engine, monkeypatch):
    judgements = [judgement(engine, conversation) for conversation in CONVERSATIONS[:8]]
    whole = engine.score(judgements)

    monkeypatch.setattr(transformers_engine, "MAX_CHUNK_TOKENS", 60)

    for chunked, scores in zip(engine.score(judgements), whole, strict=True):
        assert_same(chunked, scores)


def test_an_answer_that_is_no_verdict_is_unreadable_never_safe(tmp_path):
    random_llama(3, SMALL, tied=False).save_pretrained(tmp_path)
    llama_guard_2_tokenizer().save_pretrained(tmp_path)
    engine = load(tmp_path)

    results = engine.score([judgement(engine, c) for c in CONVERSATIONS])

    assert all(isinstance(result, UnreadableVerdict) for result in results)


def test_numbers_that_are_no_numbers_spoil_only_their_own_text(folder, tmp_path, engine):
    model = AutoModelForCausalLM.from_pretrained(folder)
    [poison] = llama_guard_2_tokenizer()(" xylophone", add_special_tokens=False).input_ids[:1]
    with torch.no_grad():
        model.model.embed_tokens.weight[poison] = float("nan")
    model.save_pretrained(tmp_path)
    llama_guard_2_tokenizer().save_pretrained(tmp_path)
    poisoned = load(tmp_path)
    clean, spoilt = alternating("I play the violin."), alternating("I play the xylophone.")

    first, second, third = poisoned.score(
        [judgement(poisoned, conversation) for conversation in (clean, spoilt, clean)]
    )

    assert isinstance(second, UnreadableVerdict)
    [expected] = engine.score([judgement(engine, clean)])
    assert_same(first, expected)
    assert_same(third, expected)


def test_a_model_that_puts_a_space_before_its_answers_is_read_with_it(folder, tmp_path):
    """Two models that differ only in which twin of a verdict word they write."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.embed_tokens.weight[[6220, 20451]] = model.model.embed_tokens.weight[
            [19193, 39257]
        ]
        plain = engine_of(model, tmp_path / "plain")
        model.lm_head.weight[[19193, 39257, 6220, 20451]] = model.lm_head.weight[
            [6220, 20451, 19193, 39257]
        ]
        spaced = engine_of(model, tmp_path / "spaced")

    for conversation in CONVERSATIONS:
        [scores] = spaced.score([judgement(spaced, conversation)])
        assert_same(scores, plain.score([judgement(plain, conversation)])[0])


def engine_of(model, folder: Path) -> TransformersEngine:
    model.save_pretrained(folder)
    llama_guard_2_tokenizer().save_pretrained(folder)
    return load(folder)
