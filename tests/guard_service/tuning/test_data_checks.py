"""Rows that would teach the wrong thing are refused, each named by file and line."""

import pytest

from guard_service.moderation import ConfigurationError
from guard_service.policy import default_policy
from guard_service.tuning.data_checks import check_rows
from tests.guard_service.tuning.rows import asked, labelled, placed

POLICY = default_policy("compact")
SAFE, UNSAFE = asked("Bread"), asked("Bombs", unsafe=True, codes=("S1",))
ROWS = placed(SAFE, UNSAFE)


def refusal(rows=ROWS, dev=(), held_out=()) -> str:
    with pytest.raises(ConfigurationError) as error:
        check_rows(rows, dev, held_out, POLICY)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_that_are_repeated_or_alike_pass():
    """A mixture repeats rows to give them weight."""
    dev = placed(asked("Butter"), asked("Poison", unsafe=True))
    held_out = placed(asked("Bread and butter"), asked("..."))

    check_rows([*ROWS, *ROWS, *placed(asked("?"))], dev, held_out, POLICY)


def test_without_a_row_there_is_nothing_to_train_on():
    assert refusal(rows=[]) == "there is no row to train on"


def test_one_conversation_with_two_labels_is_refused():
    rows = placed(SAFE, UNSAFE, asked("Bombs"), asked("Bread"), asked("Bombs"))

    assert refusal(rows) == (
        "a.jsonl, line 3: label: safe, but the same conversation is unsafe in a.jsonl, line 2 "
        "(1 more such rows)"
    )


def test_the_same_last_message_after_other_turns_is_another_conversation():
    after_others = labelled(("user", "Cakes"), ("assistant", "Yes"), ("user", "Bombs"))

    check_rows([*ROWS, *placed(after_others)], (), (), POLICY)


def test_a_category_that_the_policy_lacks_is_refused():
    rows = placed(SAFE, asked("Bombs", unsafe=True, codes=("S1", "S12")))

    assert refusal(rows).startswith(
        "a.jsonl, line 2: categories: S12 is none of llama-guard-2's: S1, S2,"
    )


def test_a_safe_row_with_categories_is_refused():
    rows = placed(asked("Bread", codes=("S1",)))

    assert refusal(rows) == "a.jsonl, line 1: categories: a safe row has none"


def test_a_dev_row_that_is_trained_on_is_refused():
    dev = placed(asked("Butter"), UNSAFE, file="dev.jsonl")

    assert refusal(dev=dev) == (
        "dev.jsonl, line 2: this dev row is trained on too, in a.jsonl, line 2"
    )


def test_dev_rows_of_one_label_choose_nothing():
    assert refusal(dev=placed(asked("Butter"))).startswith("all dev rows are safe")


@pytest.mark.parametrize("in_dev", [False, True])
def test_a_last_message_that_is_held_out_is_refused(in_dev):
    leaking = placed(
        asked("Poison", unsafe=True),
        labelled(("user", "Hi"), ("assistant", "No!"), ("user", "how  to bake A cake")),
        file="b.jsonl",
    )
    held_out = placed(asked("Rice"), asked("How to bake a cake?"), file="eval.jsonl")
    given = {"dev": leaking} if in_dev else {"rows": leaking}

    assert refusal(**given, held_out=held_out) == (
        "b.jsonl, line 2: the last message equals that of a held-out row, eval.jsonl, line 2"
    )
