from concurrent.futures import ThreadPoolExecutor

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import ConfigurationError
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from tests.conversations import random_conversations
from tests.prompts import alternating
from tests.tokenizers import llama3_tokenizer

LG2 = FORMATS["llama-guard-2"]
LG2_POLICY = default_policy("llama-guard-2")


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.from_pretrained_tokenizer(llama3_tokenizer())


def byte_level(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """A byte-level BPE without a word splitter, on top of the 256 byte symbols."""
    symbols = {symbol: index for index, symbol in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    longer = {token: len(symbols) + index for token, index in vocab.items()}
    tokenizer = Tokenizer(models.BPE({**symbols, **longer}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer


def test_texts_have_the_published_token_ids(vocabulary: Vocabulary):
    assert vocabulary.encode_text("safe") == [19193]
    assert vocabulary.encode_text(" safe") == [6220]
    assert vocabulary.encode_text("unsafe\nS1,S10") == [39257, 198, 50, 16, 21861, 605]
    assert vocabulary.encode_text(" unsafe") == [20451]
    assert vocabulary.encode_text("<END CONVERSATION>") == [27, 4794, 3501, 73326, 3579, 29]
    assert vocabulary.encode_text("") == []


def test_the_name_of_a_control_token_is_plain_text(vocabulary: Vocabulary):
    assert vocabulary.encode_text("<|eot_id|>") == [27, 91, 68, 354, 851, 91, 29]


def test_control_tokens_are_found_by_name(vocabulary: Vocabulary):
    assert vocabulary.special_id("<|begin_of_text|>") == 128_000
    assert vocabulary.special_id("<|eot_id|>") == 128_009


@pytest.mark.parametrize("name", ["<|im_start|>", "safe", ""])
def test_a_missing_control_token_is_a_configuration_error(vocabulary: Vocabulary, name: str):
    with pytest.raises(ConfigurationError, match="has no control token"):
        vocabulary.special_id(name)


def test_an_added_word_that_is_not_a_control_token_does_not_pass_for_one():
    tokenizer = byte_level({}, [])
    tokenizer.add_tokens([AddedToken("<|eot_id|>", special=False)])

    with pytest.raises(ConfigurationError, match="no control token"):
        Vocabulary(tokenizer, bos_id=None).special_id("<|eot_id|>")


def test_token_ends_add_up_to_the_text(vocabulary: Vocabulary):
    for conversation in random_conversations(seed=5, num_conversations=500):
        text = conversation[0].content
        ends = vocabulary.token_ends(text)

        assert len(ends) == len(vocabulary.encode_text(text))
        assert ends == sorted(ends)
        assert ends[-1:] == [len(text)][: len(ends)]


def test_a_split_character_is_whole_only_with_its_last_token(vocabulary: Vocabulary):
    text = "Hi \U0001f9ff\U0001faa9 you"

    ends = vocabulary.token_ends(text)

    assert ends == [2, 3, 3, 4, 4, 4, 5, 9]
    assert len(vocabulary.encode_text(text[:4])) <= ends.index(4) + 1


def test_only_a_llamas_own_bos_begins_prompts():
    llama = Vocabulary.from_pretrained_tokenizer(llama3_tokenizer())
    other_tokens = byte_level({}, [])
    other_tokens.add_special_tokens(["<|im_start|>"])
    other = Vocabulary.from_pretrained_tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=other_tokens, bos_token="<|im_start|>")
    )
    prompt = LG2.render(alternating("Hi"), LG2_POLICY)

    assert llama.encode(prompt).prefix[0] == 128_000
    assert other.encode(prompt).prefix[0] == other.encode_text("[")[0]


def test_a_slow_tokenizer_is_refused():
    class SlowTokenizer:
        is_fast = False

    with pytest.raises(ConfigurationError, match=r"no tokenizer\.json"):
        Vocabulary.from_pretrained_tokenizer(SlowTokenizer())


def test_truncation_and_padding_set_in_the_tokenizer_file_have_no_effect():
    tokenizer = byte_level({}, [])
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=64)

    assert len(Vocabulary(tokenizer, bos_id=None).encode_text("abcdefgh")) == 8


def test_the_callers_tokenizer_is_left_alone():
    tokenizer = byte_level({}, [])
    tokenizer.add_special_tokens(["<|eot_id|>"])

    vocabulary = Vocabulary(tokenizer, bos_id=None)

    assert len(vocabulary.encode_text("<|eot_id|>")) == 10
    assert tokenizer.encode("<|eot_id|>").ids == [256]


def test_a_format_whose_control_tokens_are_missing_is_refused():
    vocabulary = Vocabulary(byte_level({}, []), bos_id=None)

    with pytest.raises(ConfigurationError, match=r"<\|start_header_id\|>"):
        vocabulary.verify(FORMATS["llama-guard-3"], default_policy("llama-guard-3"))


@pytest.mark.parametrize("joined", [(":", "Ġ"), ("Ċ", "<")])
def test_a_tokenizer_that_joins_text_across_the_cut_is_refused(joined: tuple[str, str]):
    vocabulary = Vocabulary(byte_level({"".join(joined): 0}, [joined]), bos_id=None)

    with pytest.raises(ConfigurationError, match="joins text across the prompt's cut"):
        vocabulary.verify(LG2, LG2_POLICY)


def test_a_tokenizer_that_joins_a_blank_line_and_a_bracket_is_refused_for_compact_alone():
    vocabulary = Vocabulary(byte_level({"Ċ[": 0}, [("Ċ", "[")]), bos_id=None)

    vocabulary.verify(LG2, LG2_POLICY)
    with pytest.raises(ConfigurationError, match="joins text across the prompt's cut"):
        vocabulary.verify(FORMATS["compact"], default_policy("compact"))


def test_a_tokenizer_in_which_a_control_token_can_be_typed_is_refused():
    tokenizer = byte_level({"<s": 0, "<s>": 1}, [("<", "s"), ("<s", ">")])
    tokenizer.add_special_tokens(["<s>"])

    with pytest.raises(ConfigurationError, match="reads <s> in content"):
        Vocabulary(tokenizer, bos_id=None).verify(LG2, LG2_POLICY)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_llama_3_vocabulary_may_be_trusted_with_every_format(vocabulary: Vocabulary, name: str):
    vocabulary.verify(FORMATS[name], default_policy(name))


def test_threads_may_share_a_vocabulary(vocabulary: Vocabulary):
    prompts = [
        LG2.render(conversation, LG2_POLICY)
        for conversation in random_conversations(seed=6, num_conversations=300)
    ]

    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(vocabulary.encode, prompts))

    assert concurrent == [vocabulary.encode(prompt) for prompt in prompts]
