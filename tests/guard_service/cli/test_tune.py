"""`guard-service tune`: mistakes are found before the long work, each in one line."""

from pathlib import Path

import pytest

from tests.command import run
from tests.guard_service.tuning.rows import asked, write_rows


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", [asked("Bread"), asked("Bombs", unsafe=True)])


def test_the_help_of_tune_shows_flag_default_range_and_variable():
    finished = run("tune", "--help", COLUMNS="200")

    assert "--step-tokens" in finished.output
    assert "256..1000000; default 2688; GUARD_TUNE_STEP_TOKENS" in finished.output
    assert "embedded, llama-guard-2-8b-24gb" in finished.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rank", "0"], "--rank: '0' is not allowed; allowed: 1..256"),
        (["--format", "chat"], "--format: 'chat' is not allowed; allowed: llama-guard-1,"),
        (["--config", "nowhere"], "cannot read the settings file nowhere"),
    ],
)
def test_a_wrong_setting_is_one_line(rows, flags, said):
    finished = run("tune", str(rows), *flags)

    assert finished.status == 78
    assert finished.one_line.startswith(said)


def test_a_variable_that_is_no_setting_is_one_line(rows):
    finished = run("tune", str(rows), GUARD_TUNE_RANKS="4")

    assert finished.status == 78
    assert finished.one_line.startswith("GUARD_TUNE_RANKS: there is no such setting")


def test_a_missing_extra_is_one_line(rows, tmp_path):
    (tmp_path / "trl.py").write_text("raise ModuleNotFoundError('No trl', name='trl')\n")

    finished = run("tune", str(rows), PYTHONPATH=str(tmp_path))

    assert finished.status == 78
    assert finished.one_line == (
        "trl is not installed: install the extra 'tune' (pip install 'guard-service[model,tune]')"
    )


def test_a_bad_row_is_named_and_nothing_is_written(rows, tmp_path):
    with rows.open("a", encoding="utf-8") as file:
        file.write('{"id": "3"}\n')

    finished = run("tune", str(rows), "--output", str(tmp_path / "tuned"))

    assert finished.status == 78
    assert finished.one_line.startswith(f"{rows}, line 3: ")
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize("flag", ["dev", "held-out"])
def test_a_file_of_no_rows_checks_nothing_and_is_refused(rows, tmp_path, flag):
    empty = write_rows(tmp_path / "empty.jsonl", [])

    finished = run("tune", str(rows), f"--{flag}={empty}")

    assert finished.status == 78
    assert finished.one_line == f"{flag.replace('-', '_')}: there is no row in {empty}"


def test_a_row_that_is_held_out_is_named(rows):
    finished = run("tune", str(rows), "--config", "embedded", f"--held-out={rows}")

    assert finished.status == 78
    assert finished.one_line.startswith(f"{rows}, line 1: the last message equals")
