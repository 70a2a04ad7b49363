"""What the manifests name is what `make image` and `make image-embedded` make."""

import os
import re
import subprocess

import pytest
import yaml

from tests.deploy.dockerfile import ROOT
from tests.deploy.manifests import Manifests, containers_of
from tests.deploy.rendering import RENDERS

Made = dict[str, tuple[str, str]]
"""By image and tag: the target it is built of, and the build of PyTorch."""

NO_PYTORCH = "gateway"


def made_by(*arguments: str) -> Made:
    """What the recipe would build, without building it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    recipe = subprocess.run(
        ["make", "--dry-run", "--silent", *arguments],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"--build-arg TORCH=(\w+) .*--target (\S+) -t (\S+)", recipe)
    assert found, recipe
    return {image: (target, torch) for torch, target, image in found}


@pytest.fixture(scope="module")
def made() -> Made:
    ways = (["image"], ["image", "TORCH=gpu"], ["image-embedded"])
    return {image: how for way in ways for image, how in made_by(*way).items()}


def images_of(manifests: Manifests) -> set[str]:
    return {
        container["image"]
        for workload in manifests.workloads()
        for container in containers_of(workload)
    }


@pytest.mark.k(24)
@pytest.mark.parametrize("render", RENDERS)
def test_every_image_of_the_manifests_is_made_for_its_device(renderer, made: Made, render: str):
    torch = "cpu" if render.startswith("cpu") else "cuda"
    for manifests in (renderer.render(render), renderer.template(render)):
        for image in images_of(manifests):
            assert image in made, f"{image} is made by none of: {sorted(made)}"
            target, build = made[image]
            assert build == torch or target == NO_PYTORCH, f"{image} has PyTorch for {build}"


def test_compose_names_the_images_that_it_builds(made: Made):
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    built = {
        each["image"]: each["build"]["target"] for each in services.values() if "build" in each
    }

    assert built == {image: made[image][0] for image in built}


def test_one_tag_never_stands_for_two_builds():
    cpu, gpu = made_by("image"), made_by("image", "TORCH=gpu")

    for image in cpu.keys() & gpu.keys():
        assert cpu[image][0] == gpu[image][0] == NO_PYTORCH
    with pytest.raises(subprocess.CalledProcessError):
        made_by("image-embedded", "TORCH=gpu")
