"""The Helm chart makes the same objects as kustomize, and refuses values that it does not know."""

import json
import re
import subprocess
from copy import deepcopy
from typing import Any

import pytest

from tests.deploy.manifests import Manifests, Object, name_of
from tests.deploy.rendering import KUSTOMIZE, RENDERS, VALUES
from tests.deploy.rule import RULES
from tests.deploy.test_rules import EVERY_RULE

HASH = re.compile(r"^((?:guard|gateway)-(?:settings|policies|model))-[0-9a-z]{10}$")
BY_HELM = {"app.kubernetes.io/managed-by", "helm.sh/chart"}
BY_NAME = {"env", "ports", "volumeMounts", "volumes"}
"""Lists whose order means nothing: their entries have names, or places."""


def plain(value: Any, key: str = "") -> Any:
    """Without what the two tools add: hashes in names, sums of settings, labels of Helm."""
    if isinstance(value, dict):
        kept = {
            name: plain(each, name)
            for name, each in value.items()
            if name not in BY_HELM and not name.startswith("checksum/")
        }
        return {name: each for name, each in kept.items() if each != {}}
    if isinstance(value, list):
        entries = [plain(each) for each in value]
        return sorted(entries, key=_sorted) if key in BY_NAME else entries
    return HASH.sub(r"\1", value) if isinstance(value, str) else value


def _sorted(entry: object) -> str:
    return json.dumps(entry, sort_keys=True)


def by_name(manifests: Manifests) -> dict[tuple[str, str], Object]:
    return {
        (each["kind"], HASH.sub(r"\1", name_of(each))): plain(each) for each in manifests.objects
    }


@pytest.mark.k(26)
@pytest.mark.parametrize("render", RENDERS)
def test_chart_and_kustomize_make_the_same_objects(renderer, render: str):
    chart, overlay = by_name(renderer.template(render)), by_name(renderer.render(render))

    assert chart.keys() == overlay.keys()
    for name, each in overlay.items():
        assert chart[name] == each, name


def test_a_difference_would_be_seen(renderer):
    chart = deepcopy(renderer.template("cpu"))
    guard = chart.find("Deployment", "guard")
    guard["spec"]["template"]["spec"]["containers"][0]["env"].pop()

    assert by_name(chart) != by_name(renderer.render("cpu"))


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_every_rule_holds_for_the_chart(renderer, rule):
    assert RULES[rule.name] is rule
    assert list(rule.check(renderer.template("gke"))) == []


@pytest.mark.k(26)
@pytest.mark.parametrize("render", RENDERS)
def test_helm_finds_nothing_to_complain_of(renderer, render: str):
    command = [*renderer.helm("lint", *VALUES[render]), "--strict"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("guard.replica=3", "replica"),
        ("autoscaling.kind=vpa", "kind"),
        ("gateway.settings.GUARD_PORT=1", "GUARD_PORT"),
        ("guard.image.digest=sha256:abc", "digest"),
        ("weights.enabled=true", "revision"),
        ("autoscaling.minReplicas=1", "minReplicas"),
    ],
)
def test_a_mistaken_value_is_refused(renderer, value: str, problem: str):
    command = renderer.helm("template", "values-cpu.yaml", value)
    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    assert finished.returncode != 0
    assert problem in finished.stderr


def templates(manifests: Manifests) -> dict[str, object]:
    return {name_of(each): each["spec"]["template"] for each in manifests.of_kind("Deployment")}


@pytest.mark.k(25)
@pytest.mark.parametrize(
    ("change", "concerned"),
    [
        ("guard.settings.GUARD_MAX_WINDOWS=8", {"guard"}),
        ("guard.policies.house\\.yaml=other", {"guard"}),
        ("weights.folder=/models/other", {"guard"}),
        ("gateway.settings.GATEWAY_MAX_MESSAGES=8", {"gateway"}),
    ],
)
def test_a_change_rolls_the_pods_it_concerns(renderer, change: str, concerned: set[str]):
    before = templates(renderer.template("gpu"))
    after = templates(renderer.chart("values-gpu.yaml", change))

    assert {name for name in before if before[name] != after[name]} == concerned


def test_the_notes_say_what_to_do_next(renderer):
    """Helm renders them for an installation only, and a dry run is one."""
    install = renderer.helm("install", "values-gpu.yaml")
    install.insert(2, "moderation")
    finished = subprocess.run(
        [*install, "--dry-run=client"], capture_output=True, text=True, check=False
    )

    assert finished.returncode == 0, finished.stderr
    assert "THE LIST OF FILES IS EMPTY" in finished.stdout
    assert "moderation/client=true" in finished.stdout


def test_the_charts_policies_are_the_overlays(renderer):
    chart = renderer.template("cpu").find("ConfigMap", "guard-policies")["data"]["house.yaml"]

    assert chart == (KUSTOMIZE / "base" / "policies" / "guard.yaml").read_text(encoding="utf-8")
