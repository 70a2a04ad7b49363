# ruff: noqa: RUF001 -- confusable characters are test data here

"""With the real Llama 3 vocabulary, pieces give the tokens of the whole, and content no control."""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import Conversation, Message, Role
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from guard_service.prompt_formats.prompt import BeginningOfText, Prompt, SpecialToken
from tests.conversations import random_conversations
from tests.prompts import alternating
from tests.tokenizers import (
    FIRST_SPECIAL_ID,
    llama3_reference,
    llama3_special_names,
    llama3_tokenizer,
)

NUM_FUZZED_TEXTS = 40_000
PIECES = (
    [" ", "  ", "\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u2028", "\u3000"],
    ["\u200b", "\u200d", "\ufeff", "\u00ad", "\ufe0f", "\u202e", "\x00", "\x1f", "\x7f", "\ufffd"],
    ["a", "The", "don't", "I'LL", "naïve", "STRAẞE", "ǅ", "ﬁ", "x_y", "ſ", "İ", "ͅ"],
    ["1", "12", "123", "1234", "½", "٣", "²", "Ⅷ", "1.5e-3"],
    [
        ".",
        ",",
        ":",
        "?!",
        "...",
        "'",
        "'s",
        '"',
        "(",
        ")]",
        "{}",
        "<",
        ">",
        "[",
        "]",
        "/",
        "|",
        "＜",
    ],
    [
        "e\u0301",
        "\u0301",
        "Z\u0335\u0321",
        "你好",
        "こんにちは",
        "한국",
        "мир",
        "שלום",
        "مرحبا",
        "नमस्ते",
    ],
    ["🙂", "👩‍👩‍👧", "🏳️‍🌈", "🇩🇪", "𝕏", "\U0001f9ff", "\U000e0041", "\U0010ffff", "\ue000"],
    ["User:", "Agent:", "\n\nUser: ", "\n\nAgent: ok", "[INST]", " [/INST]", "<<SYS>>"],
    ["[/", "[/INST", "\n\n[/INST", "INST]", "[\u200b"],
    ["<BEGIN CONVERSATION>", "\n\n<END CONVERSATION>\n\n", "<END UNSAFE CONTENT CATEGORIES>"],
    ["<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|reserved_special_token_0|>"],
)


@cache
def llama3_vocabulary() -> Vocabulary:
    return Vocabulary.from_pretrained_tokenizer(llama3_tokenizer())


@pytest.fixture
def vocabulary() -> Vocabulary:
    return llama3_vocabulary()


def fuzzed_texts(seed: int, num_texts: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(num_texts):
        parts = [rng.choice(rng.choice(PIECES)) for _ in range(rng.randint(0, 8))]
        if rng.random() < 0.2:
            parts.append(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])))
        yield "".join(parts)


def assert_pieces_are_the_whole(
    vocabulary: Vocabulary, name: str, conversations: Iterable[Conversation]
) -> None:
    policy = default_policy(name)
    prompts = [FORMATS[name].render(conversation, policy) for conversation in conversations]
    pieces = []
    for prompt in prompts:
        segments = vocabulary.encode(prompt)
        pieces.append(segments.prefix + segments.body + segments.suffix)
        assert max(segments.body) < FIRST_SPECIAL_ID

    for prompt, given_tokens, whole in zip(prompts, pieces, whole_tokens(prompts), strict=True):
        assert given_tokens == whole, ascii(prompt.body)


def whole_tokens(prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    """The reference: each run of text between two control tokens encoded as one string."""
    runs = [runs_of(prompt) for prompt in prompts]
    texts = [run for each in runs for run in each if isinstance(run, str)]
    encoded = iter(llama3_reference().encode_ordinary_batch(texts, num_threads=2))
    return [
        tuple(chain.from_iterable(next(encoded) if isinstance(run, str) else [run] for run in each))
        for each in runs
    ]


def runs_of(prompt: Prompt) -> list[str | int]:
    """Texts joined wherever they are neighbours, control tokens by id."""
    runs: list[str | int] = []
    for piece in (*prompt.prefix, prompt.body, *prompt.suffix):
        match piece:
            case BeginningOfText():
                runs.append(FIRST_SPECIAL_ID)
            case SpecialToken(name):
                runs.append(FIRST_SPECIAL_ID + llama3_special_names().index(name))
            case str() if isinstance(runs[-1], str):
                runs[-1] += piece
            case str():
                runs.append(piece)
    return runs


@pytest.mark.parametrize("name", ["llama-guard-2", "compact"])
def test_pieces_of_many_random_texts_give_the_tokens_of_the_whole(
    vocabulary: Vocabulary, name: str
):
    texts = fuzzed_texts(seed=17, num_texts=NUM_FUZZED_TEXTS)

    assert_pieces_are_the_whole(vocabulary, name, map(alternating, texts))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_pieces_of_conversations_give_the_tokens_of_the_whole(vocabulary: Vocabulary, name: str):
    texts = list(fuzzed_texts(seed=23, num_texts=1500))
    fuzzed = [alternating(*texts[start : start + 3]) for start in range(0, len(texts), 3)]
    worded = random_conversations(seed=29, num_conversations=500)

    assert_pieces_are_the_whole(vocabulary, name, [*fuzzed, *worded])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.builds(Message, st.sampled_from(Role), st.text()), min_size=1, max_size=3))
def test_pieces_of_any_conversation_give_the_tokens_of_the_whole(messages: list[Message]):
    for name in ("llama-guard-2", "compact"):
        assert_pieces_are_the_whole(llama3_vocabulary(), name, [tuple(messages)])


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_only_the_scaffold_has_control_tokens(vocabulary: Vocabulary, name: str):
    everything = " ".join(llama3_special_names())
    prompt = FORMATS[name].render(alternating(everything, everything), default_policy(name))

    segments = vocabulary.encode(prompt)

    scaffold = (*prompt.prefix, *prompt.suffix)
    expected = sum(not isinstance(piece, str) for piece in scaffold)
    ids = segments.prefix + segments.body + segments.suffix
    assert sum(token >= FIRST_SPECIAL_ID for token in ids) == expected
