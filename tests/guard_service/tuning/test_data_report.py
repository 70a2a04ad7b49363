"""What is trained on is counted by all that a mixture may get wrong."""

import io
import json

from rich.console import Console

from guard_service.policy import default_policy
from guard_service.tuning.data_report import UNKNOWN, Balance, data_report
from guard_service.tuning.data_table import data_table
from tests.guard_service.tuning.rows import asked, labelled

POLICY = default_policy("compact")
ROWS = [
    asked("Bread"),
    asked("Bread"),
    asked("Bombs", unsafe=True, codes=("S1", "S2")),
    asked("Poison " * 20, unsafe=True),
    labelled(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), source="chats"),
]
DEV = [asked("Butter"), asked("Theft", unsafe=True)]
REPORT = data_report(ROWS, DEV, POLICY)


def test_all_rows_are_counted():
    assert (REPORT.rows, REPORT.dev) == (Balance(5, 2), Balance(2, 1))
    assert REPORT.num_repeated == 1


def test_rows_are_counted_by_role_source_turns_and_length():
    assert REPORT.roles == {"agent": Balance(1, 0), "user": Balance(4, 2)}
    assert REPORT.sources == {"made up": Balance(4, 2), "chats": Balance(1, 0)}
    assert REPORT.turns == {"1": Balance(4, 2), "2": Balance(1, 0)}
    assert REPORT.characters == {"1-50": Balance(4, 1), "51-200": Balance(1, 1)}


def test_a_row_counts_in_each_of_its_categories():
    assert REPORT.categories["S1"] == REPORT.categories["S2"] == Balance(1, 1)
    assert REPORT.categories["S3"] == Balance(0, 0)
    twice = data_report([asked("Bombs", unsafe=True, codes=("S1", "S1"))], [], POLICY)
    assert twice.categories["S1"] == Balance(1, 1)
    assert REPORT.categories[UNKNOWN] == Balance(1, 1)


def test_what_is_hardly_learnt_is_a_warning():
    one_sided, rare = REPORT.warnings

    assert one_sided == "only 0 of 1 rows of the agent are unsafe"
    assert rare.startswith("fewer than 50 rows of S1 (1), S2 (1), S3 (0),")
    assert UNKNOWN not in rare


def test_balanced_rows_raise_no_warning():
    codes = tuple(each.code for each in POLICY.categories)
    rows = [asked(f"Bread {n}") for n in range(50)]
    rows += [asked(f"Bombs {n}", unsafe=True, codes=codes) for n in range(50)]

    assert data_report(rows, [], POLICY).warnings == ()


def test_the_digest_is_that_of_what_is_taught_in_its_order():
    again = data_report(list(ROWS), list(DEV), POLICY)

    assert again.digest == REPORT.digest
    assert len(REPORT.digest) == 64
    for other in ([*ROWS[1:], asked("Brot")], [*ROWS[1:], ROWS[0]], [*ROWS, DEV[0]]):
        assert data_report(other, DEV, POLICY).digest != REPORT.digest
    assert data_report([*ROWS, *DEV], [], POLICY).digest != REPORT.digest


def test_the_json_holds_every_group():
    document = json.loads(REPORT.as_json())

    assert document["digest"] == REPORT.digest
    assert document["categories"]["S1"] == {"num_rows": 1, "num_unsafe": 1}
    assert document["warnings"] == list(REPORT.warnings)


def test_the_table_fits_a_narrow_terminal_however_many_sources_there_are():
    many = [asked(f"Bread {n}") for n in range(30)]
    rows = [
        labelled(("user", row.messages[0].content), source=f"set {n}") for n, row in enumerate(many)
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(data_table(data_report(rows, DEV, POLICY), POLICY))
    text = console.file.getvalue()

    assert "…" not in text
    assert "source set 10" in text
    assert "source (19 others)" in text
