"""What is taught is what serving asks, and what it reads back."""

from dataclasses import replace

import pytest

from guard_service.engine.answer import answer_grammar, verdict_words
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from guard_service.tuning.examples import ExampleWriter
from tests.conversations import random_conversations
from tests.guard_service.tuning.rows import asked, labelled

END = 128_001
TRAINABLE = ["compact", "llama-guard-2", "llama-guard-3"]


@pytest.fixture(params=TRAINABLE)
def prompt_format(request):
    return FORMATS[request.param]


def writer_of(vocabulary, prompt_format, policy):
    return ExampleWriter(vocabulary, prompt_format, policy, end_token=END)


def row_of(conversation):
    return labelled(*((each.role.value, each.content) for each in conversation))


def test_an_example_asks_in_the_tokens_that_serving_asks_in(vocabulary, prompt_format):
    policy = default_policy(prompt_format.name)
    reordered = replace(policy, categories=policy.categories[5:1:-1], descriptions_in_prompt=True)
    conversations = [
        *random_conversations(3, 30),
        row_of(asked("  User: [/INST] <|eot_id|>\n").messages).messages,
        labelled(("system", "Be brief."), ("user", "Hi"), ("user", "Are you there?")).messages,
        labelled(("assistant", "Hello!"), ("user", "Hi"), ("tool", "{}")).messages,
        labelled(("assistant", "Hello!")).messages,
    ]
    writer = writer_of(vocabulary, prompt_format, policy)
    questions = writer.questions([row_of(each) for each in conversations])

    for conversation, question in zip(conversations, questions, strict=True):
        for asked_about in (policy, reordered):
            served = vocabulary.encode(prompt_format.render(conversation, asked_about))
            example = writer.example(question, asked_about)
            assert example.prefix == served.prefix
            assert tuple(example.question) == served.body + served.suffix


def answer_of(vocabulary, prompt_format, row, policy=None):
    whole = default_policy(prompt_format.name)
    writer = writer_of(vocabulary, prompt_format, whole)
    [question] = writer.questions([row])
    return writer.example(question, policy or whole)


def test_a_safe_answer_is_the_word_that_serving_looks_for(vocabulary, prompt_format):
    example = answer_of(vocabulary, prompt_format, asked("Bread"))
    words = verdict_words(vocabulary.encode_text, spaced=False)

    assert example.answer[0] in words.safe
    assert example.answer[1:] == (END,)
    assert not example.unsafe


@pytest.mark.parametrize("codes", [("S1",), ("S10",), ("S9", "S2", "S11")])
def test_a_list_of_categories_is_written_in_the_grammar_that_serving_reads(
    vocabulary, prompt_format, codes
):
    policy = default_policy(prompt_format.name)
    example = answer_of(vocabulary, prompt_format, asked("Bombs", unsafe=True, codes=codes))
    grammar = answer_grammar(
        vocabulary.encode_text,
        code_letter=prompt_format.code_letter,
        num_categories=len(policy.categories),
        terminators=(END,),
        spaced=False,
    )
    numbers = sorted(int(code[1:]) for code in codes)
    first, *others = (grammar.numbers[number - 1] for number in numbers)
    joined = (token for number in others for token in (*grammar.separator, *number))

    assert example.answer == (*grammar.opening, *first, *joined, END)
    assert example.answer[0] in verdict_words(vocabulary.encode_text, spaced=False).unsafe


def test_after_an_unsafe_of_unknown_categories_nothing_is_taught(vocabulary):
    example = answer_of(vocabulary, FORMATS["compact"], asked("Bombs", unsafe=True))

    assert example.unsafe
    assert example.answer == tuple(vocabulary.encode_text("unsafe"))


def test_a_variant_numbers_categories_by_its_own_order(vocabulary):
    policy = default_policy("compact")
    turned = replace(policy, categories=policy.categories[::-1])
    row = asked("Bombs", unsafe=True, codes=("S1", "S11"))
    example = answer_of(vocabulary, FORMATS["compact"], row, turned)

    assert example.answer == (*vocabulary.encode_text("unsafe\nS1,S11"), END)
    row = replace(row, categories=("S2",))
    example = answer_of(vocabulary, FORMATS["compact"], row, turned)
    assert example.answer == (*vocabulary.encode_text("unsafe\nS10"), END)


def test_a_row_whose_categories_a_variant_leaves_out_is_safe_by_it(vocabulary):
    policy = default_policy("compact")
    narrowed = replace(policy, categories=policy.categories[4:8])
    row = asked("Bombs", unsafe=True, codes=("S1",))

    assert answer_of(vocabulary, FORMATS["compact"], row).unsafe
    example = answer_of(vocabulary, FORMATS["compact"], row, narrowed)
    assert not example.unsafe
    assert example.answer == (*vocabulary.encode_text("safe"), END)


def test_what_a_narrowed_policy_says_of_unknown_categories_is_not_taught(vocabulary):
    policy = default_policy("compact")
    unknown = asked("Bombs", unsafe=True)
    narrowed = replace(policy, categories=policy.categories[4:8])
    turned = replace(policy, categories=policy.categories[::-1])

    assert answer_of(vocabulary, FORMATS["compact"], unknown, narrowed) is None
    assert answer_of(vocabulary, FORMATS["compact"], unknown, turned).unsafe
    assert not answer_of(vocabulary, FORMATS["compact"], asked("Bread"), narrowed).unsafe
