"""The dashboard is what its source says, and asks only for what the services export."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from benchmarks.dashboard_series import MAIN, main_rows
from deploy.grafana.dashboard import build, write
from deploy.grafana.rows import ROWS
from deploy.prometheus.metrics_table import registries
from tests.deploy.processes import ROOT
from tests.deploy.promql import GIVEN, metric_names

SHIPPED = ROOT / "deploy" / "grafana" / "moderation.json"
VARIABLES = {"datasource", "namespace", "job", "instance"}


def panels() -> Iterator[dict[str, Any]]:
    yield from json.loads(SHIPPED.read_text())["panels"]


def expressions() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert len(found) > 50
    return found


@pytest.mark.k(23)
def test_the_shipped_file_is_what_the_source_makes(tmp_path):
    fresh = tmp_path / "fresh.json"
    write(fresh)

    assert SHIPPED.read_text() == fresh.read_text(), (
        "run: python -m deploy.grafana.dashboard deploy/grafana/moderation.json"
    )


@pytest.mark.k(23)
def test_the_shipped_file_is_a_dashboard_to_grafanas_own_types():
    read = Dashboard.from_json(json.loads(SHIPPED.read_text()))

    assert read.title == build().title
    assert len(read.panels) == len(list(panels()))


@pytest.mark.k(23)
def test_every_metric_a_panel_asks_for_is_exported():
    exported = {
        sample.name
        for registry in registries()
        for family in registry.collect()
        for sample in family.samples
    }
    names = set().union(
        *(metric_names(each.replace("$__rate_interval", "1m")) for each in expressions())
    )
    recorded = {name for name in names if ":" in name}

    assert names - recorded - exported - GIVEN == set()
    rules = (ROOT / "deploy" / "prometheus" / "rules.yaml").read_text()
    assert {name for name in recorded if f"record: {name}\n" not in rules} == set()


@pytest.mark.k(23)
def test_every_panel_heeds_the_choice_of_installation_and_says_what_it_shows():
    for panel in panels():
        if panel["type"] != "row":
            assert len(panel["description"]) > 10, panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
    for expression in expressions():
        assert "$namespace" in expression or "ALERTS" in expression, expression


@pytest.mark.k(23)
def test_every_variable_used_is_there():
    board = json.loads(SHIPPED.read_text())

    assert {each["name"] for each in board["templating"]["list"]} == VARIABLES


@pytest.mark.k(23)
def test_no_panel_overlaps_another_or_shares_its_id():
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells

    assert len(set(ids)) == len(ids)


@pytest.mark.k(23)
def test_the_preview_in_the_docs_shows_panels_that_exist():
    shown = [panel.title for row in main_rows() for panel in row.panels]

    assert sorted(shown) == sorted(MAIN)


@pytest.mark.k(23)
def test_a_fixed_colour_is_of_a_series_its_panel_can_have():
    values = label_values()
    for panel in (panel for row in ROWS for panel in row.panels):
        legends = [
            re.sub(r"{{(\w+)}}", lambda label: values.get(label[1], label[0]), query.legend)
            for query in panel.queries
        ]
        for name in panel.colours:
            assert any(re.fullmatch(legend, name) for legend in legends), (panel.title, name)


def label_values() -> dict[str, str]:
    """For each label of exported metrics, a pattern of the values it has."""
    found = defaultdict(set)
    for registry in registries():
        for family in registry.collect():
            for sample in family.samples:
                for label, value in sample.labels.items():
                    found[label].add(re.escape(value))
    return {label: f"({'|'.join(sorted(values))})" for label, values in found.items()}
