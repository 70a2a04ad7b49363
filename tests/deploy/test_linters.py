"""checkov and hadolint find nothing that was not looked at and decided."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.dockerfile import DOCKERFILE, ROOT
from tests.deploy.rendering import RENDERS

DECIDED = {
    "CKV_K8S_15": "images have a release's tag or a digest, so the node's copy is right",
    "CKV_K8S_35": "the gateway reads its upstream's key from the environment only",
    "CKV_K8S_43": "a digest belongs to a registry; the README says how to pin it",
}
"""Checks of checkov that we do not follow, each with the reason."""


def failed_checks(checkov: str, folder: Path) -> list[dict[str, str]]:
    command = [checkov, "--skip-download", "--framework", "kubernetes", "--output", "json"]
    finished = subprocess.run(
        [*command, "--directory", str(folder)], capture_output=True, text=True, check=False
    )
    report = json.loads(finished.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 300
    failed: list[dict[str, str]] = report["results"]["failed_checks"]
    return failed


@pytest.fixture(scope="module")
def failures(tool, renderer, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("checkov")
    for render in RENDERS:
        objects = renderer.render(render).objects
        (folder / f"{render}.yaml").write_text(yaml.safe_dump_all(objects))
    return failed_checks(tool("checkov"), folder)


@pytest.mark.k(14)
def test_checkov_finds_nothing_undecided(failures):
    assert [
        f"{each['check_id']} {each['check_name']}: {each['resource']}"
        for each in failures
        if each["check_id"] not in DECIDED
    ] == []


def test_every_decision_is_still_needed(failures):
    assert {each["check_id"] for each in failures} == DECIDED.keys()


@pytest.mark.k(24)
def test_hadolint_finds_nothing(tool):
    command = [tool("hadolint"), str(DOCKERFILE)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.k(24)
def test_hadolint_would_find_something(tool, tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp && sudo apt-get install curl\n")

    command = [tool("hadolint"), str(tmp_path / "Dockerfile")]

    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
