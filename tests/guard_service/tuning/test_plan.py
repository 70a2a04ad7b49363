"""What cannot be taught, or could not be served, is refused before a model is loaded."""

from copy import deepcopy
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from guard_service.moderation import ConfigurationError
from guard_service.tuning.run import plan
from guard_service.tuning.settings import TuneSettings, load
from tests.guard_service.engine.test_vocabulary import byte_level
from tests.guard_service.tuning.rows import asked
from tests.tokenizers import llama3_tokenizer

ROWS = [asked("Bread"), asked("Bombs", unsafe=True, codes=("S1",))]
LONG = asked("bomb " * 500, unsafe=True)


def refusal(rows=ROWS, dev=(), tokenizer: Any = None, **given: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        plan(
            load(TuneSettings, given),
            tokenizer or llama3_tokenizer(),
            rows,
            dev,
            lambda _: None,
        )
    return str(error.value)


def test_rows_that_are_all_too_long_teach_nothing():
    assert refusal(rows=[LONG], max_tokens=100) == "all training rows have more than 100 tokens"


def test_dev_rows_of_which_one_label_is_too_long_choose_nothing():
    said = refusal(dev=[asked("Soup"), LONG], max_tokens=100)

    assert said == "all dev rows of at most 100 tokens are safe"


def test_rows_that_no_variant_says_anything_of_teach_nothing():
    unknown = [asked(f"Bombs {n}", unsafe=True) for n in range(5)]

    assert refusal(rows=unknown, policy_variants=1, epochs=1).startswith("no row is left to train")


def test_a_vocabulary_that_serving_would_refuse_is_refused():
    joins = PreTrainedTokenizerFast(tokenizer_object=byte_level({"Ċ[": 0}, [("Ċ", "[")]))

    assert "joins text across the prompt's cut" in refusal(tokenizer=joins)


def test_a_tokenizer_that_cannot_end_an_answer_is_refused():
    endless = deepcopy(llama3_tokenizer())
    endless.eos_token = None

    assert refusal(tokenizer=endless).startswith("model: its tokenizer names no token that ends")
