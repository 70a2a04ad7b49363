"""Pieces give the tokens of the whole in vocabularies that split and prefix text differently."""

import json
from functools import cache

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from guard_service.engine.vocabulary import Vocabulary
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from guard_service.prompt_formats.prompt import Prompt
from tests.conversations import random_conversations
from tests.prompts import BEGIN_OF_TEXT, alternating, text_of

LG1 = FORMATS["llama-guard-1"]
POLICY = default_policy("llama-guard-1")
CORPUS = text_of(LG1.render(alternating("Hi there, how are you?", "Fine: 1, 2, 3"), POLICY))
GPT_2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def sentencepiece_like(*, legacy: bool) -> Tokenizer:
    """A small vocabulary in the manner of Llama 2: byte fallback, a space before every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.replace(BEGIN_OF_TEXT, "").split("\n"), trainer)
    settings = json.loads(tokenizer.to_str())
    vocab = settings["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    if legacy:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def gpt_2_like() -> Tokenizer:
    """A small byte-level vocabulary that splits a blank line by what comes after it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT_2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS, "a\n\n", "b\n\n"] * 8, trainer)
    return tokenizer


def whole(tokenizer: Tokenizer, prompt: Prompt) -> tuple[int, ...]:
    """The prompt tokenised as one string after its BOS, by the tokenizer as it is."""
    text = text_of(prompt).removeprefix(BEGIN_OF_TEXT)
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return (1, *copy.encode(text, add_special_tokens=False).ids)


KINDS = ("sentencepiece", "legacy sentencepiece", "gpt-2")


@cache
def trained(kind: str) -> Tokenizer:
    return gpt_2_like() if kind == "gpt-2" else sentencepiece_like(legacy="legacy" in kind)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_give_the_tokens_of_the_whole(kind: str):
    tokenizer = trained(kind)
    vocabulary = Vocabulary(tokenizer, bos_id=1)
    vocabulary.verify(LG1, POLICY)

    for conversation in random_conversations(seed=11, num_conversations=500):
        prompt = LG1.render(conversation, POLICY)
        segments = vocabulary.encode(prompt)

        assert segments.prefix + segments.body + segments.suffix == whole(tokenizer, prompt)


@pytest.mark.parametrize("kind", ["sentencepiece", "legacy sentencepiece"])
def test_a_piece_gets_no_space_it_does_not_have(kind: str):
    tokenizer = trained(kind)
    vocabulary = Vocabulary(tokenizer, bos_id=1)

    assert tokenizer.encode("Can", add_special_tokens=False).tokens[0].startswith("\u2581")
    first = vocabulary.encode_text("Can")[0]
    assert not (tokenizer.id_to_token(first) or "").startswith("\u2581")
    assert vocabulary.token_ends(" Can\n")[-1] == 5


def test_a_blank_line_is_split_as_it_is_before_the_suffix():
    tokenizer = trained("gpt-2")
    body = Vocabulary(tokenizer, bos_id=1).encode(LG1.render(alternating("Hi"), POLICY)).body

    assert tokenizer.token_to_id("ĊĊ") is not None
    assert [tokenizer.id_to_token(token) for token in body[-2:]] == ["Ċ", "Ċ"]
