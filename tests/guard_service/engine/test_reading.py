"""Reading logits: normalisation, the trie, and refusing what is no verdict."""

import math

import pytest

from guard_service.engine import reading
from guard_service.engine.answer import AnswerGrammar, VerdictWords
from guard_service.engine.reading import Choice, VerdictReading
from guard_service.moderation import UnreadableVerdict

SAFE, UNSAFE, SPLIT_REST = 1, 2, 3
WORDS = VerdictWords(safe=(SAFE,), unsafe=(UNSAFE,), unsafe_word=(UNSAFE,))
SPLIT_WORDS = VerdictWords(safe=(SAFE,), unsafe=(UNSAFE,), unsafe_word=(UNSAFE, SPLIT_REST))
COMMA, END = 7, 0
SINGLE = AnswerGrammar((2, 4, 5), (6,), ((11,), (12,), (13,)), (), (END,))
# Numbers 1, 2 and 10..12 as digits; 1 is the trunk.
DIGITS = AnswerGrammar(
    (2, 4, 5), (COMMA, 5), ((101,), (102,), (101, 100), (101, 101), (101, 102)), (101,), (END,)
)


def log(**shares: float) -> dict[int, float]:
    return {int(token[1:]): math.log(share) for token, share in shares.items()}


def verdict(safe: float, unsafe: float, *likeliest: int) -> VerdictReading:
    return VerdictReading({SAFE: safe, UNSAFE: unsafe}, likeliest)


def test_p_unsafe_is_normalised_over_the_verdict_words():
    read = reading.unsafe_probability(WORDS, verdict(math.log(0.1), math.log(0.3), UNSAFE))

    assert read == pytest.approx(0.75)


def test_spaced_twins_of_the_words_count_with_them():
    words = VerdictWords(safe=(1, 10), unsafe=(2, 20), unsafe_word=(2,))
    logits = log(_1=0.1, _10=0.2, _2=0.3, _20=0.2)

    read = reading.unsafe_probability(words, VerdictReading(logits, (2,)))

    assert read == pytest.approx(0.5 / 0.8)


@pytest.mark.parametrize("gap", [-2000.0, 2000.0])
def test_extreme_logits_give_a_probability(gap):
    read = reading.unsafe_probability(WORDS, verdict(0.0, gap, SAFE))

    assert read == pytest.approx(float(gap > 0))


def test_an_answer_that_is_no_verdict_is_unreadable():
    with pytest.raises(UnreadableVerdict, match="does not begin with a verdict"):
        reading.unsafe_probability(WORDS, verdict(5.0, 0.0, 999))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_unreadable(bad):
    with pytest.raises(UnreadableVerdict, match="not finite"):
        reading.unsafe_probability(WORDS, verdict(bad, 0.0, SAFE))
    with pytest.raises(UnreadableVerdict, match="not finite"):
        reading.number_distribution(SINGLE, [{11: bad, 12: 0.0, 13: 0.0}])
    with pytest.raises(UnreadableVerdict, match="not finite"):
        reading.choose_end(SINGLE, {6: bad, END: 0.0})


def test_a_verdict_that_breaks_off_inside_its_word_is_unreadable():
    reading.require_whole_word(SPLIT_WORDS, verdict(0.0, 1.0, UNSAFE, SPLIT_REST))
    with pytest.raises(UnreadableVerdict, match="breaks off"):
        reading.require_whole_word(SPLIT_WORDS, verdict(0.0, 1.0, UNSAFE, 999))


def test_single_token_numbers_are_a_softmax():
    distribution = reading.number_distribution(SINGLE, [log(_11=0.2, _12=0.5, _13=0.1)])

    assert distribution == pytest.approx((0.25, 0.625, 0.125))


def test_digits_multiply_along_the_trunk_and_all_ends_count():
    root = log(_101=0.6, _102=0.2)
    after_one = log(_100=0.1, _101=0.2, _102=0.3, _7=0.3, _0=0.1)

    distribution = reading.number_distribution(DIGITS, [root, after_one])

    assert distribution == pytest.approx((0.75 * 0.4, 0.25, 0.075, 0.15, 0.225))
    assert sum(distribution) == pytest.approx(1.0)


def test_greedy_choice_follows_tokens_not_totals():
    """The ends together outweigh every digit after 1, but greedy decoding compares tokens."""
    root = log(_101=0.6, _102=0.2)
    after_one = log(_100=0.1, _101=0.1, _102=0.35, _7=0.3, _0=0.15)

    assert reading.choose_number(DIGITS, [root, after_one]) == Choice(4, end=None)


@pytest.mark.parametrize(("comma", "end", "chosen"), [(0.5, 0.2, COMMA), (0.2, 0.5, END)])
def test_a_number_that_ends_on_the_trunk_tells_how_it_ends(comma, end, chosen):
    after_one = log(_100=0.1, _101=0.1, _102=0.1) | {COMMA: math.log(comma), END: math.log(end)}

    choice = reading.choose_number(DIGITS, [log(_101=0.6, _102=0.2), after_one])

    assert choice == Choice(0, end=chosen)


def test_a_number_off_the_trunk_leaves_its_end_open():
    nodes = [log(_101=0.2, _102=0.6), log(_100=0.1, _101=0.1, _102=0.1, _7=0.1, _0=0.6)]

    assert reading.choose_number(DIGITS, nodes) == Choice(1, end=None)


@pytest.mark.parametrize(
    ("grammar", "likeliest", "known"),
    [
        (SINGLE, (12,), True),
        (SINGLE, (14,), False),
        (DIGITS, (102, 999), True),
        (DIGITS, (105, 999), False),
        (DIGITS, (101, 102), True),
        (DIGITS, (101, 105), False),
        (DIGITS, (101, END), True),
    ],
)
def test_a_category_the_policy_does_not_have_is_unreadable(grammar, likeliest, known):
    root = dict.fromkeys((11, 12, 13, 101, 102), 0.0) | {likeliest[0]: 1.0}
    after_one = dict.fromkeys((100, 101, 102, COMMA, END), 0.0) | {likeliest[-1]: 1.0}
    nodes = [root, after_one][: len(likeliest)]

    if known:
        reading.choose_number(grammar, nodes, likeliest)
    else:
        with pytest.raises(UnreadableVerdict, match="that the policy does not have"):
            reading.choose_number(grammar, nodes, likeliest)
