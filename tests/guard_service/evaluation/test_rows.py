"""Rows are checked as they are read, and a bad one is named by file and line."""

import gzip
import json

import pytest

from guard_service.evaluation.rows import read_rows
from guard_service.moderation import ConfigurationError, Message, Role

GOOD = {
    "id": "1",
    "source": "set",
    "role": "agent",
    "messages": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
    ],
    "label": "safe",
    "categories": None,
    "licence": "MIT",
}


def written(folder, *rows):
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_a_row_becomes_a_conversation_with_a_label(tmp_path):
    [row] = read_rows([written(tmp_path, GOOD)])

    assert row.conversation[-1] == Message(Role.ASSISTANT, "Hello!")
    assert (row.source, row.unsafe, row.categories) == ("set", False, None)


def test_compressed_files_are_read_too(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.write(json.dumps(GOOD) + "\n\n")

    assert len(read_rows([file])) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "maybe"}, "line 2: label: Input should be 'safe' or 'unsafe'"),
        ({"messages": []}, "line 2: messages: at least one is needed"),
        ({"messages": [{"role": "robot", "content": ""}]}, "line 2: messages.0.role: Input should"),
        ({"role": "user"}, "line 2: role: the last message is not the user's"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, change, said):
    file = written(tmp_path, GOOD, GOOD | change)

    with pytest.raises(ConfigurationError, match=f"^{file}, {said}"):
        read_rows([file])


def test_a_line_that_is_no_json_is_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("safe\n", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="line 1: row: Invalid JSON"):
        read_rows([file])


def test_a_file_that_is_not_compressed_as_named_is_refused(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_text("{}", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="cannot read"):
        read_rows([file])


def test_a_limit_draws_the_same_rows_of_each_file_every_time(tmp_path):
    file = written(tmp_path, *(GOOD | {"id": str(number)} for number in range(50)))

    drawn = [row.id for row in read_rows([file, file], limit=5)]

    assert len(set(drawn)) == 5
    assert drawn == [row.id for row in read_rows([file, file], limit=5)]
    assert drawn[:5] == drawn[5:]


def test_a_line_that_is_no_utf_8_is_a_bad_row(tmp_path):
    file = written(tmp_path, GOOD)
    with file.open("ab") as lines:
        lines.write(json.dumps(GOOD | {"id": "caf?"}).encode().replace(b"?", b"\xe9"))

    with pytest.raises(ConfigurationError, match=f"^{file}, line 2: row: Invalid JSON: "):
        read_rows([file])


def test_a_damaged_archive_is_named(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(json.dumps(GOOD).encode())
    file.write_bytes(whole[:12] + bytes(20) + whole[32:])

    with pytest.raises(ConfigurationError, match=f"^cannot read {file}: "):
        read_rows([file])
