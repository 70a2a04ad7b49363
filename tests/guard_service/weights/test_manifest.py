"""A model folder holds exactly what the list says, or is refused by the name of one file."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from guard_service.moderation import ConfigurationError
from guard_service.weights import manifest_of, read_manifest
from tests.command import run

FILES = {
    "model.safetensors": b"tensors",
    "config.json": b"{}",
    "tokenizer.json": b"[]",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    for name, content in FILES.items():
        (model / name).write_bytes(content)
    return model


@pytest.fixture
def manifest(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "SHA256SUMS"
    path.write_text(str(manifest_of(folder)), encoding="utf-8")
    return path


def refusal(folder: Path, manifest: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_manifest(manifest).require(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_untouched_folder_passes(folder, manifest):
    read_manifest(manifest).require(folder)


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_found_in_any_file(folder, manifest, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)

    message = refusal(folder, manifest)

    assert message.startswith(f"{folder / name} is not the file that {manifest} lists")
    assert hashlib.sha256(content).hexdigest() in message


def test_a_missing_file_is_named(folder, manifest):
    (folder / "tokenizer.json").unlink()

    assert refusal(folder, manifest).startswith(f"{folder / 'tokenizer.json'} is missing")


@pytest.mark.parametrize("name", ["modeling_llama.py", "pytorch_model.bin", ".hidden", "a/b.json"])
def test_a_file_that_is_not_listed_is_named(folder, manifest, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()

    assert f"{folder / name} is not listed" in refusal(folder, manifest)


def test_a_missing_folder_is_refused(folder, manifest):
    assert refusal(folder / "nowhere", manifest) == f"there is no folder '{folder / 'nowhere'}'"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("abc  model.safetensors", "line 1 must be 64 hex digits"),
        (f"{'a' * 64}  ../model.safetensors", "is not a plain relative path"),
        (f"{'a' * 64}  /model.safetensors", "is not a plain relative path"),
        (f"{'a' * 64}  original/params.json", "lies in a folder of its own"),
        (f"{'a' * 64}  pytorch_model.bin", "is none of *.safetensors"),
        (f"{'a' * 64}  tokenizer.py", "is none of *.safetensors"),
        (f"{'a' * 64}  tokenizer.json", "lists no weights"),
        ("# nothing yet", "lists no weights"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path, line, problem):
    path = tmp_path / "SHA256SUMS"
    path.write_text(line + "\n", encoding="utf-8")

    with pytest.raises(ConfigurationError) as caught:
        read_manifest(path)

    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_listed_twice_is_refused(tmp_path):
    path = tmp_path / "SHA256SUMS"
    path.write_text(f"{'a' * 64}  model.safetensors\n{'b' * 64}  model.safetensors\n")

    with pytest.raises(ConfigurationError, match="listed twice"):
        read_manifest(path)


def test_the_list_is_the_one_sha256sum_writes_and_checks(folder, manifest):
    subprocess.run(["sha256sum", "--check", "--strict", manifest], cwd=folder, check=True)
    written = subprocess.run(
        ["sha256sum", "--binary", *FILES], cwd=folder, check=True, capture_output=True
    )
    manifest.write_bytes(written.stdout)

    read_manifest(manifest).require(folder)


def test_no_list_is_made_of_a_folder_with_pickles(folder):
    (folder / "pytorch_model.bin").touch()

    with pytest.raises(ConfigurationError, match=r"'pytorch_model.bin' in .+ is none of"):
        manifest_of(folder)


def test_the_command_lists_and_verifies(tmp_path, folder):
    listed = run("models", "manifest", str(folder))
    path = tmp_path / "SHA256SUMS"
    path.write_text(listed.output, encoding="utf-8")

    right = run("models", "verify", str(folder), "--manifest", str(path))
    (folder / "config.json").write_bytes(b"{ }")
    wrong = run("models", "verify", str(folder), "--manifest", str(path))

    assert (listed.status, right.status, wrong.status) == (0, 0, 78)
    assert right.output == f"all 3 files of {folder} are as listed in {path}\n"
    assert wrong.one_line.startswith(f"{folder / 'config.json'} is not the file")
