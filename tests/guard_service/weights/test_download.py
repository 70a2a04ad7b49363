"""Downloading from a hub over HTTP: complete and right, or absent."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import COMMAND, ROOT, Finished, run
from tests.guard_service.weights.stub_hub import COMMIT, MODEL, StubHub, stub_hub

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": bytes(range(256)) * 4096,
    "model-00002-of-00002.safetensors": bytes(reversed(range(256))) * 2048,
    "tokenizer.json": b"{}",
}
NOT_LISTED = {"original/consolidated.00.pth": b"pickle", "modeling_llama.py": b"import os"}


@pytest.fixture
def hub():
    with stub_hub({**FILES, **NOT_LISTED}) as serving:
        yield serving


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "SHA256SUMS"
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in FILES.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def arguments(tmp_path: Path, revision: str = COMMIT) -> tuple[str, ...]:
    manifest, into = tmp_path / "SHA256SUMS", tmp_path / "models" / "guard"
    return (
        *("models", "download", MODEL, "--revision", revision),
        *("--into", str(into), "--manifest", str(manifest)),
    )


def download(hub: StubHub, tmp_path: Path, **variables: str) -> Finished:
    return run(*arguments(tmp_path), **{**hub.variables, **variables})


@pytest.mark.usefixtures("manifest")
def test_the_listed_files_arrive_and_no_others(hub, tmp_path):
    finished = download(hub, tmp_path)

    folder = tmp_path / "models" / "guard"
    assert (finished.status, finished.error) == (0, "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert sorted(hub.fetched) == sorted(FILES)
    assert "file 2 of 4: model-00001-of-00002.safetensors" in finished.output


@pytest.mark.usefixtures("manifest")
def test_a_second_download_verifies_and_fetches_nothing(hub, tmp_path):
    download(hub, tmp_path)
    hub.fetched.clear()

    again = download(hub, tmp_path)

    assert (again.status, hub.fetched) == (0, [])
    assert "is there already, and every file is as listed" in again.output


@pytest.mark.usefixtures("manifest")
def test_a_tampered_file_on_the_hub_never_becomes_a_model(hub, tmp_path):
    name = "model-00001-of-00002.safetensors"
    hub.files[name] = hub.files[name][:-1] + b"\x00"

    finished = download(hub, tmp_path)

    assert finished.status == 78
    assert f"{name} is not the file that" in finished.one_line
    assert not (tmp_path / "models" / "guard").exists()


@pytest.mark.usefixtures("manifest")
def test_once_the_hub_is_mended_the_next_attempt_succeeds(hub, tmp_path):
    name = "model-00001-of-00002.safetensors"
    hub.files[name] = b"wrong"
    download(hub, tmp_path)
    hub.files[name] = FILES[name]

    assert download(hub, tmp_path).status == 0


@pytest.mark.usefixtures("manifest")
def test_a_folder_tampered_with_on_disk_is_refused_and_left_alone(hub, tmp_path):
    download(hub, tmp_path)
    weights = tmp_path / "models" / "guard" / "model-00002-of-00002.safetensors"
    weights.write_bytes(b"other weights")

    again = download(hub, tmp_path)

    assert again.status == 78
    assert f"{weights} is not the file that" in again.one_line
    assert weights.read_bytes() == b"other weights"


@pytest.mark.usefixtures("manifest")
def test_a_broken_connection_leaves_no_model_and_the_next_attempt_goes_on(hub, tmp_path):
    name = "model-00002-of-00002.safetensors"
    hub.breaks_off.add(name)
    broken = download(hub, tmp_path, HF_HUB_DOWNLOAD_TIMEOUT="5")
    assert (broken.status, (tmp_path / "models" / "guard").exists()) == (78, False)
    hub.breaks_off.clear()
    hub.fetched.clear()

    again = download(hub, tmp_path)

    assert again.status == 0
    assert hub.fetched == [name, "tokenizer.json"]


@pytest.mark.parametrize(
    ("variables", "revision", "kind"),
    [
        ({"HF_TOKEN": "hf_wrong"}, COMMIT, "GatedRepoError"),
        ({}, "f" * 40, "RevisionNotFoundError"),
    ],
)
@pytest.mark.usefixtures("manifest")
def test_a_hub_that_does_not_serve_is_one_clear_line(hub, tmp_path, variables, revision, kind):
    finished = run(*arguments(tmp_path, revision), **{**hub.variables, **variables})

    assert finished.status == 78
    assert f"({kind}); check the name, the revision" in finished.one_line
    assert "hf_" not in finished.error


@pytest.mark.usefixtures("manifest")
def test_a_branch_is_no_revision(hub, tmp_path):
    finished = run(*arguments(tmp_path, "main"), **hub.variables)

    assert finished.one_line == (
        "--revision: 'main' is not allowed; allowed: 40 hexadecimal digits"
    )
    assert hub.fetched == []


@pytest.mark.usefixtures("manifest")
def test_a_volume_that_cannot_be_written_is_one_clear_line(hub, tmp_path):
    (tmp_path / "models").touch()

    assert f"cannot write {tmp_path / 'models' / 'guard'}" in download(hub, tmp_path).one_line


@pytest.mark.usefixtures("manifest")
def test_two_at_once_make_one_model(hub, tmp_path):
    running = [
        subprocess.Popen(
            [*COMMAND, *arguments(tmp_path)],
            cwd=ROOT,
            env={**os.environ, **hub.variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [each.communicate(timeout=240)[0] for each in running]

    assert [each.returncode for each in running] == [0, 0]
    assert sorted(hub.fetched) == sorted(FILES)
    assert sorted("already" in output for output in outputs) == [False, True]


def test_nothing_is_loaded_for_it_but_the_hub_client():
    program = "import sys, guard_service.weights; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0
