"""What kustomize and Helm make of deploy/: lists of Kubernetes objects."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

from tests.deploy.manifests import Manifests

ROOT = Path(__file__).parents[2]
KUSTOMIZE = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm" / "moderation"

OVERLAYS = ("cpu", "gpu", "gke")
COMPONENTS = {"cpu-hpa": ("cpu", ("hpa", "monitoring", "routes", "tracing"))}
"""Renders beside the overlays: an overlay, and components on top of it."""

RENDERS = (*OVERLAYS, *COMPONENTS)

VALUES = {
    "cpu": ("values-cpu.yaml", "namespace.create=true"),
    "gpu": ("values-gpu.yaml", "namespace.create=true"),
    "gke": ("values-gpu.yaml", "values-gke.yaml", "namespace.create=true"),
    "cpu-hpa": (
        "values-cpu.yaml", "namespace.create=true", "autoscaling.kind=hpa",
        "monitoring.operator=true", "routes.enabled=true", "tracing.enabled=true",
    ),
}  # fmt: skip
"""What the chart is given to make the same objects."""


class Renderer:
    """Runs the real programs, each render once."""

    def __init__(self, kubectl: str, helm: str, scratch: Path) -> None:
        self._kubectl = kubectl
        self._helm = helm
        self._scratch = scratch
        self.render = cache(self._render)
        self.template = cache(self._template)

    def _render(self, name: str) -> Manifests:
        """The objects of an overlay, or of one of `COMPONENTS`."""
        if name in OVERLAYS:
            return self.kustomize(KUSTOMIZE / "overlays" / name)
        overlay, components = COMPONENTS[name]
        return self.compose(name, overlay, components)

    def compose(self, name: str, overlay: str, components: Iterable[str]) -> Manifests:
        """An overlay with components, as a user would put them together."""
        folder = self._scratch / name
        folder.mkdir()
        base = os.path.relpath(KUSTOMIZE, folder.resolve())
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{base}/overlays/{overlay}"],
            "components": [f"{base}/components/{each}" for each in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return self.kustomize(folder)

    def kustomize(self, folder: Path) -> Manifests:
        return _objects(self._kubectl, "kustomize", str(folder))

    def changed(self, overlay: str, file: str, old: str, new: str, *, folder: Path) -> Manifests:
        """An overlay of a copy in which one file says something else."""
        copy = folder / "kubernetes"
        shutil.copytree(KUSTOMIZE, copy)
        text = (copy / file).read_text(encoding="utf-8")
        assert old in text
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
        return self.kustomize(copy / "overlays" / overlay)

    def _template(self, name: str) -> Manifests:
        """What the chart makes of the values that stand for this render."""
        return self.chart(*VALUES[name])

    def chart(self, *values: str) -> Manifests:
        return _objects(*self.helm("template", *values))

    def helm(self, verb: str, *values: str) -> list[str]:
        """A command line of Helm; a value that names no file is set by `--set`."""
        options = [
            f"--values={CHART / value}" if value.endswith(".yaml") else f"--set={value}"
            for value in values
        ]
        release = ["moderation"] if verb == "template" else []
        return [self._helm, verb, *release, str(CHART), "--namespace=moderation", *options]


def _objects(*command: str) -> Manifests:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return Manifests([each for each in yaml.safe_load_all(finished.stdout) if each])
