"""A change of a setting or of a policy changes the pods it concerns, so that it rolls out."""

from pathlib import Path

import pytest

from tests.deploy.manifests import Manifests

CHANGES = {
    "base/policies/guard.yaml": ("threshold: 0.5", "threshold: 0.4", {"guard"}),
    "base/policies/gateway.yaml": ("id: buffer", "id: buffered", {"gateway"}),
    "base/settings/guard.env": ("GUARD_LOG_FORMAT=json", "GUARD_LOG_FORMAT=console", {"guard"}),
    "overlays/gpu/gateway.env": ("llama-3-8b-instruct", "llama-3-70b-instruct", {"gateway"}),
    "overlays/gpu/SHA256SUMS": ("# Put", "# put", {"guard"}),
}


def templates(manifests: Manifests) -> dict[str, object]:
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in manifests.of_kind("Deployment")
    }


@pytest.mark.k(25)
@pytest.mark.parametrize("file", CHANGES)
def test_a_change_rolls_the_pods_it_concerns(renderer, tmp_path: Path, file: str):
    old, new, concerned = CHANGES[file]
    before = templates(renderer.render("gpu"))
    after = templates(renderer.changed("gpu", file, old, new, folder=tmp_path))

    assert {name for name in before if before[name] != after[name]} == concerned
