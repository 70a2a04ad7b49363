"""Lists of categories, step by step, with scripted logits in place of a model."""

import pytest
import torch

from guard_service.engine.answer import AnswerGrammar
from guard_service.engine.category_list import CategoryList
from guard_service.engine.key_values import KeyValues
from guard_service.moderation import UnreadableVerdict

COMMA, LETTER, END = 7, 5, 0
ONE, TWO, THREE, ZERO = 101, 102, 103, 100
SINGLE = AnswerGrammar((2, 4, LETTER), (COMMA,), ((ONE,), (TWO,), (THREE,)), (), (END, 9))
# Numbers 1, 2 and 10 as digits, and a separator of two tokens.
DIGITS = AnswerGrammar(
    (2, 4, LETTER), (COMMA, LETTER), ((ONE,), (TWO,), (ONE, ZERO)), (ONE,), (END,)
)


def run(num_tokens: int) -> KeyValues:
    numbers = torch.zeros(1, num_tokens, 1)
    return KeyValues(((numbers, numbers),))


def likely(token: int) -> dict[int, float]:
    """Logits of one position where `token` comes first."""
    return dict.fromkeys((COMMA, END, 9, ONE, TWO, THREE, ZERO), 0.0) | {token: 2.0}


def started(grammar: AnswerGrammar, *nodes: int) -> CategoryList:
    category_list = CategoryList(grammar, (run(20),))
    category_list.write([likely(token) for token in nodes])
    return category_list


def codes(category_list: CategoryList) -> list[int]:
    return [index + 1 for index, _ in category_list.listed]


def test_a_step_feeds_the_last_number_and_the_separator():
    category_list = started(SINGLE, TWO)

    assert category_list.next_step.tokens == (TWO, COMMA)
    assert category_list.next_step.num_past_tokens == 20
    assert category_list.read_from == 0

    category_list.advance(run(2), [likely(COMMA), likely(THREE)])

    assert codes(category_list) == [2, 3]
    assert category_list.next_step.tokens == (THREE, COMMA)
    assert category_list.next_step.num_past_tokens == 22
    assert not category_list.done


@pytest.mark.parametrize("end", [END, 9])
def test_every_terminator_ends_a_list(end: int):
    category_list = started(SINGLE, TWO)

    category_list.advance(run(2), [likely(end), likely(THREE)])

    assert category_list.done
    assert codes(category_list) == [2]


def test_a_list_is_full_after_as_many_codes_as_there_are_and_repeats_count_once():
    category_list = started(SINGLE, TWO)
    first = category_list.listed
    for token in (TWO, ONE):
        assert not category_list.done
        category_list.advance(run(2), [likely(COMMA), likely(token) | {token: 4.0}])

    assert category_list.done
    assert codes(category_list) == [2, 1]
    assert category_list.listed[:1] == first


def test_a_number_of_several_digits_is_read_along_the_trunk():
    category_list = started(DIGITS, ONE, ZERO)

    assert codes(category_list) == [3]
    assert category_list.next_step.tokens == (ONE, ZERO, COMMA, LETTER, ONE)
    assert category_list.read_from == 1

    after_ten, after_comma, root, trunk = likely(COMMA), likely(END), likely(ONE), likely(COMMA)
    category_list.advance(run(5), [after_ten, after_comma, root, trunk])

    assert codes(category_list) == [3, 1]
    assert category_list.next_step.num_past_tokens == 20 + 4
    assert not category_list.done


def test_a_number_that_ends_on_the_trunk_may_end_the_list():
    assert started(DIGITS, ONE, END).done
    assert not started(DIGITS, ONE, COMMA).done
    assert not started(DIGITS, TWO, END).done


def test_the_probability_is_that_of_the_number_at_its_place():
    [(_, probability)] = started(SINGLE, TWO).listed

    weights = torch.tensor([0.0, 2.0, 0.0]).softmax(0)
    assert probability == pytest.approx(float(weights[1]))


def test_logits_that_are_no_numbers_leave_the_list_unreadable():
    category_list = started(SINGLE, TWO)
    broken = likely(COMMA) | {END: float("nan")}

    with pytest.raises(UnreadableVerdict):
        category_list.advance(run(2), [broken, likely(ONE)])
    with pytest.raises(UnreadableVerdict):
        category_list.advance(run(2), [likely(COMMA), likely(ONE) | {TWO: float("nan")}])
