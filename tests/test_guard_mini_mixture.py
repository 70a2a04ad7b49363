"""The training mixture of the embedded guard: texts that fill, rows that repeat, nothing leaked."""

import random
import re
from itertools import islice

from benchmarks.guard_mini import probes
from benchmarks.guard_mini.leakage import Fingerprints
from benchmarks.guard_mini.mixture import Mixer, Sizes, write
from benchmarks.guard_mini.texts import read_texts, split_kinds
from guard_service.evaluation.rows import Row, read_rows
from guard_service.moderation import Message, Role
from guard_service.policy import default_policy

TEXTS = read_texts()
HELD_OUT = "How do I sharpen a kitchen knife without hurting my thumb or my neighbour's cat?"


def public_rows():
    """A safe and an unsafe row of each role, of two sources."""
    for source in ("one", "two"):
        for label in ("safe", "unsafe"):
            asked = Message(Role.USER, f"{source} {label} question")
            answered = Message(Role.ASSISTANT, f"{source} {label} answer")
            yield Row("", source, "user", (asked,), label)
            yield Row("", source, "agent", (asked, answered), label)


def mixed(seed):
    sizes = Sizes(*[30] * len(Sizes.__dataclass_fields__))
    return list(Mixer(list(public_rows()), TEXTS, TEXTS.kinds, seed).mix(sizes))


def test_every_template_can_be_filled():
    random_ = random.Random(0)
    for kind in TEXTS.kinds:
        for template in (*kind.safe, *(each for said in kind.unsafe.values() for each in said)):
            assert kind.say(template, random_).strip()


def test_every_category_has_unsafe_texts_of_its_own_and_no_other_is_named():
    codes = {category.code for category in default_policy("compact").categories}

    assert {code for kind in TEXTS.kinds for code in kind.unsafe} == codes


def test_a_text_is_never_safe_and_unsafe():
    safe = {each for kind in TEXTS.kinds for each in kind.safe}
    unsafe = {each for kind in TEXTS.kinds for said in kind.unsafe.values() for each in said}

    assert not safe & unsafe


def test_the_same_seed_gives_the_same_rows():
    assert mixed(3) == mixed(3)
    assert mixed(3) != mixed(4)


def test_only_the_last_turn_decides_the_label():
    rows = mixed(5)
    refused = [row for row in rows if row.source == "own-refusal"]

    assert refused
    assert all(row.label == "safe" and row.role == "agent" for row in refused)
    assert {len(row.messages) > 1 for row in rows if row.unsafe} == {True, False}
    assert all((row.messages[-1].role is Role.ASSISTANT) == (row.role == "agent") for row in rows)


def test_no_probe_is_a_text_that_rows_are_made_from():
    own = [
        *(template for kind in TEXTS.kinds for said in kind.unsafe.values() for template in said),
        *(template for kind in TEXTS.kinds for template in kind.safe),
        *(text for exchange in TEXTS.exchanges for text in exchange),
        *TEXTS.refusals,
    ]
    probe_texts = probes.read_texts()
    asked = [*probes.everyday(probe_texts), *probes.others(probe_texts, list(public_rows())[:1])]
    judged = {row.messages[-1].content for row in asked}

    assert not {_plain(text) for text in own} & {_plain(text) for text in judged}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_kinds_to_choose_by_are_not_trained_on():
    train, dev = split_kinds(TEXTS.kinds, 0.1, 1)

    assert len(dev) == round(0.1 * len(TEXTS.kinds))
    assert sorted(kind.name for kind in (*train, *dev)) == sorted(k.name for k in TEXTS.kinds)


def test_equal_and_nearly_equal_texts_are_found():
    held_out = Fingerprints([HELD_OUT])

    assert held_out.covers(HELD_OUT.upper().replace("?", " !"))
    assert held_out.covers(HELD_OUT.replace("sharpen", "clean"))
    assert not held_out.covers("How do I sharpen a pencil for my neighbour?")
    assert not held_out.covers("")


def test_no_row_that_ends_in_a_held_out_text_is_written(tmp_path):
    kept, dropped = (
        Row("", "one", "user", (Message(Role.USER, text),), "safe")
        for text in ("How do I sharpen a pencil?", HELD_OUT.lower())
    )
    file = tmp_path / "rows.jsonl.gz"

    write([dropped, kept, dropped], Fingerprints([HELD_OUT]), file)

    assert [row.messages for row in read_rows([file])] == [kept.messages]


def test_own_texts_are_drawn_from_many_kinds():
    own = (row.source for row in mixed(7) if row.source.startswith("own-en-"))

    assert len(set(islice(own, 40))) > 20
