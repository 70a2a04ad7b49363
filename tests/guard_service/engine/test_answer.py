"""The verdict grammar in single-token and digit-splitting vocabularies."""

import pytest

from guard_service.engine.answer import answer_grammar, verdict_words
from guard_service.moderation import ConfigurationError
from tests.tokenizers import llama3_tokenizer

WORDS = {"safe": 1, "unsafe": 2, "un": 3, "\n": 4, "S": 5, ",S": 6, ",": 7}


def encode_digits(text: str) -> list[int]:
    """A vocabulary that writes numbers digit by digit, and `unsafe` in two tokens."""
    ids = []
    while text:
        if text[0].isdigit():
            ids.append(100 + int(text[0]))
            text = text[1:]
            continue
        word = next(word for word in ("un", "safe", "\n", "S", ",") if text.startswith(word))
        ids.append(WORDS[word])
        text = text[len(word) :]
    return ids


def encode_llama3(text: str) -> list[int]:
    return list(llama3_tokenizer()(text, add_special_tokens=False).input_ids)


def test_llama_3_writes_every_code_as_one_choice():
    grammar = answer_grammar(
        encode_llama3, code_letter="S", num_categories=11, terminators=(128001,), spaced=False
    )

    assert grammar.opening == (39257, 198, 50)
    assert grammar.separator == (21861,)
    assert grammar.numbers == tuple((i,) for i in (16, 17, 18, 19, 20, 21, 22, 23, 24, 605, 806))
    assert grammar.trunk == ()


def test_llama_3_counts_spaced_verdict_words_as_the_same_verdict():
    words = verdict_words(encode_llama3, spaced=True)

    assert words.safe == (6220, 19193)
    assert words.unsafe == (20451, 39257)
    assert words.unsafe_word == (20451,)


def test_digits_share_a_trunk():
    grammar = answer_grammar(
        encode_digits, code_letter="S", num_categories=14, terminators=(0,), spaced=False
    )

    assert grammar.opening == (3, 1, 4, 5)
    assert grammar.trunk == (101,)
    assert grammar.numbers[9] == (101, 100)
    assert grammar.ends == (7, 0)


def test_a_lone_category_keeps_its_number_out_of_the_opening():
    grammar = answer_grammar(
        encode_digits, code_letter="S", num_categories=1, terminators=(0,), spaced=False
    )

    assert grammar.numbers == ((101,),)


def test_more_digits_than_one_forward_reads_are_refused():
    with pytest.raises(ConfigurationError, match="up to 19 categories; the policy has 20"):
        answer_grammar(
            encode_digits, code_letter="S", num_categories=20, terminators=(0,), spaced=False
        )


def test_a_vocabulary_that_merges_lists_is_refused():
    def encode(text: str) -> list[int]:
        return [hash(text) % 1000] if "," in text else encode_digits(text)

    with pytest.raises(ConfigurationError, match="does not write category lists"):
        answer_grammar(encode, code_letter="S", num_categories=3, terminators=(0,), spaced=False)


def test_a_vocabulary_that_cannot_tell_the_verdicts_apart_is_refused():
    with pytest.raises(ConfigurationError, match="same token"):
        verdict_words(lambda _: [7], spaced=False)


def test_a_vocabulary_that_splits_safe_is_refused():
    """Its first token alone would be taken for the verdict, whatever word it begins."""
    with pytest.raises(ConfigurationError, match="splits 'safe'"):
        verdict_words(lambda text: [1, 2] if "un" not in text else [3], spaced=False)
