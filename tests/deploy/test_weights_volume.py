"""The Job's and the init container's own arguments, run for real against a hub on loopback."""

import hashlib
from copy import deepcopy
from pathlib import Path

import pytest

from tests.command import run
from tests.deploy.manifests import arguments_of, environment_of, pod_of
from tests.deploy.settings_of import lay_out
from tests.guard_service.weights.stub_hub import COMMIT, MODEL, TOKEN, stub_hub

FILES = {"model.safetensors": b"tensors", "config.json": b"{}", "tokenizer.json": b"{}"}


@pytest.fixture
def manifests(renderer):
    """The overlay for GPUs, filled in as its README says."""
    filled = deepcopy(renderer.render("gpu"))
    [model] = [each for each in filled.of_kind("ConfigMap") if "hub-id" in each["data"]]
    assert model["data"]["hub-id"] == MODEL
    model["data"]["revision"] = COMMIT
    model["data"]["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in FILES.items()
    )
    return filled


def moved(arguments: list[str], root: Path) -> list[str]:
    return [str(root) + each if each.startswith("/") else each for each in arguments]


def prepare(manifests, pod, root: Path) -> None:
    for volume in pod["volumes"]:
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            for mount in container["volumeMounts"]:
                if mount["name"] == volume["name"]:
                    lay_out(volume, root / mount["mountPath"].lstrip("/"), manifests)


@pytest.mark.k(17)
@pytest.mark.k(18)
def test_the_job_fills_the_volume_that_the_guard_verifies(manifests, tmp_path: Path):
    job = pod_of(manifests.find("Job", "guard-model-download"))
    guard = pod_of(manifests.find("Deployment", "guard"))
    [download], [verify] = job["containers"], guard["initContainers"]
    prepare(manifests, job, tmp_path)
    prepare(manifests, guard, tmp_path)
    variables = environment_of(download, manifests)
    token_file = Path(str(tmp_path) + variables["HF_TOKEN_PATH"])
    token_file.write_text(TOKEN)
    checking = moved(arguments_of(verify, manifests), tmp_path)

    too_early = run(*checking)
    with stub_hub(FILES) as hub:
        downloaded = run(
            *moved(arguments_of(download, manifests), tmp_path),
            **{
                **variables,
                "HF_ENDPOINT": hub.variables["HF_ENDPOINT"],
                "HF_TOKEN_PATH": str(token_file),
                "HOME": str(tmp_path / "tmp"),
                "HF_HOME": str(tmp_path / "tmp" / "huggingface"),
            },
        )
    verified = run(*checking)
    weights = tmp_path / "models" / "Meta-Llama-Guard-2-8B" / "model.safetensors"
    weights.write_bytes(b"tampered")
    tampered = run(*checking)

    assert "there is no folder" in too_early.one_line
    assert (downloaded.status, downloaded.error) == (0, "")
    assert (verified.status, verified.error) == (0, "")
    assert (tampered.status, too_early.status) == (78, 78)
    assert "is not the file that" in tampered.one_line


@pytest.mark.k(17)
def test_the_overlay_as_it_is_refuses_to_download(renderer, tmp_path: Path):
    """Nobody should believe that weights were verified by a list that nobody made."""
    manifests = renderer.render("gpu")
    job = pod_of(manifests.find("Job", "guard-model-download"))
    prepare(manifests, job, tmp_path)

    finished = run(*moved(arguments_of(job["containers"][0], manifests), tmp_path))

    assert "SHA256SUMS lists no weights" in finished.one_line
