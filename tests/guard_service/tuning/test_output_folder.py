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


def test_a_run_that_left_no_checkpoint_cannot_be_resumed_and_says_so(folder):
    folder.require_unused()
    folder.log.write_text("{}\n")

    with pytest.raises(ConfigurationError, match="without a checkpoint to resume; name another"):
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
        folder.require_checkpoint("digest", {})


def test_a_run_goes_on_with_its_own_rows_only(folder):
    write_checkpoint(folder, 10)
    folder.data.write_text(json.dumps({"digest": "abc"}))

    folder.require_checkpoint("abc", {})
    with pytest.raises(ConfigurationError, match="the rows are not those of the run"):
        folder.require_checkpoint("abd", {})


def test_a_run_goes_on_with_its_own_settings_only(folder):
    write_checkpoint(folder, 10)
    folder.require_checkpoint("abc", {"rank": 16})
    folder.settings.write_text(json.dumps({"rank": 16, "format": "compact"}))

    folder.require_checkpoint("abc", {"rank": 16, "format": "compact"})
    with pytest.raises(ConfigurationError, match=r"^rank: is 4, but 16 for the run in "):
        folder.require_checkpoint("abc", {"rank": 4, "format": "compact"})


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_damaged_file_of_a_run_is_named(folder, text):
    write_checkpoint(folder, 10)
    folder.data.write_text(text)

    with pytest.raises(ConfigurationError, match=f"^cannot read {folder.data}: "):
        folder.require_checkpoint("abc", {})
