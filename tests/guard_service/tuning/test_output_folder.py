"""A run neither overwrites another nor goes on with one it does not belong to."""

import json

import pytest

from guard_service.moderation import ConfigurationError
from guard_service.tuning.output_folder import OutputFolder


@pytest.fixture
def folder(tmp_path) -> OutputFolder:
    return OutputFolder(tmp_path / "tuned")


def write_checkpoint(folder: OutputFolder, step: int, *, whole: bool = True) -> None:
    checkpoint = folder.checkpoints / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    if whole:
        (checkpoint / "trainer_state.json").write_text("{}")


def test_a_new_run_makes_its_folder(folder):
    folder.require_unused()

    assert folder.path.is_dir()


def test_a_new_run_does_not_overwrite_another(folder):
    write_checkpoint(folder, 10)

    with pytest.raises(ConfigurationError, match=r"there is a run in .* --resume goes on"):
        folder.require_unused()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=r"output: cannot make .*Not a directory"):
        OutputFolder(tmp_path / "file" / "tuned").require_unused()


def test_a_run_goes_on_from_the_newest_checkpoint_that_is_whole(folder):
    for step in (9, 100, 20):
        write_checkpoint(folder, step)
    write_checkpoint(folder, 300, whole=False)

    assert folder.newest_checkpoint() == folder.checkpoints / "checkpoint-100"


def test_without_a_checkpoint_no_run_goes_on(folder):
    folder.require_unused()
    write_checkpoint(folder, 10, whole=False)

    with pytest.raises(ConfigurationError, match="there is no checkpoint"):
        folder.require_checkpoint("digest")


def test_a_run_goes_on_with_its_own_rows_only(folder):
    write_checkpoint(folder, 10)
    folder.data.write_text(json.dumps({"digest": "abc"}))

    folder.require_checkpoint("abc")
    with pytest.raises(ConfigurationError, match="the rows are not those of the run"):
        folder.require_checkpoint("abd")
