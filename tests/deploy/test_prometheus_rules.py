"""The alerts: sound, each seen to fire and to keep silent, each with words on what to do."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.prometheus.prometheus_rule import PLACES, text
from tests.deploy.processes import ROOT
from tests.deploy.promql import metric_names

PROMETHEUS = ROOT / "deploy" / "prometheus"
POD_MONITOR = ROOT / "deploy" / "kubernetes" / "components" / "monitoring" / "pod-monitor.yaml"
SCHEMA = ROOT / "tests" / "deploy" / "schemas" / "PrometheusRule.json"
GROUPS = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}


def output_of(*command: str) -> str:
    finished = subprocess.run(
        command, cwd=PROMETHEUS, check=False, text=True, capture_output=True, timeout=280
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


@pytest.mark.k(22)
def test_promtool_accepts_the_configuration_and_the_rules(needs_binary: Callable[[str], str]):
    told = output_of(needs_binary("promtool"), "check", "config", "prometheus.yaml")

    assert re.search(r"SUCCESS: \d+ rules found", told)


@pytest.mark.k(22)
def test_each_alert_fires_on_its_series_and_on_no_others(needs_binary: Callable[[str], str]):
    told = output_of(needs_binary("promtool"), "test", "rules", "rules_test.yaml")

    assert "SUCCESS" in told


@pytest.mark.k(22)
def test_amtool_accepts_the_routes(needs_binary: Callable[[str], str]):
    told = output_of(needs_binary("amtool"), "check-config", "alertmanager.yaml")

    assert "SUCCESS" in told


@pytest.mark.k(22)
@pytest.mark.parametrize(("severity", "receiver"), [("page", "pages"), ("ticket", "tickets")])
def test_each_severity_has_its_receiver(
    needs_binary: Callable[[str], str], severity: str, receiver: str
):
    route = ("config", "routes", "test", "--config.file=alertmanager.yaml")
    told = output_of(needs_binary("amtool"), *route, f"severity={severity}")

    assert told.splitlines()[0] == receiver


@pytest.mark.k(22)
@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_is_seen_to_fire_and_to_keep_silent(name: str):
    cases = yaml.safe_load((PROMETHEUS / "rules_test.yaml").read_text())["tests"]
    checks = [check for case in cases for check in checks_of(case)]

    assert any(name in expected for _, expected in checks)
    assert any(name in asked and not expected for asked, expected in checks)


def checks_of(case: dict[str, Any]) -> list[tuple[set[str], set[str]]]:
    """Alerts asked about, and those expected to fire."""
    by_series = [
        (
            set(re.findall(r"\w+", check["expr"])),
            set(re.findall(r'alertname="(\w+)"', str(check["exp_samples"]))),
        )
        for check in case.get("promql_expr_test", ())
    ]
    by_name = [
        ({check["alertname"]}, {check["alertname"]} if check["exp_alerts"] else set())
        for check in case.get("alert_rule_test", ())
    ]
    return by_series + by_name


@pytest.mark.k(22)
@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_is_wrong_and_where_to_read_on(name: str):
    rule = ALERTS[name]
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)

    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    assert [heading.lower() for heading in headings].count(name.lower()) == 1


@pytest.mark.k(22)
def test_the_runbook_knows_no_alert_that_is_gone():
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### ((?:Guard|Gateway|Moderation)\w+)$", page, re.MULTILINE)

    assert set(headings) == ALERTS.keys()


@pytest.mark.k(22)
@pytest.mark.parametrize("name", ["ModerationTargetDown", "ModerationRestarting"])
def test_alerts_that_choose_by_job_know_every_job_of_ours(name: str):
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    jobs = [job["job_name"] for job in config["scrape_configs"]]
    [pattern] = re.findall(r'job=~"([^"]+)"', ALERTS[name]["expr"])

    monitor = yaml.safe_load(POD_MONITOR.read_text())
    assert "jobLabel" not in monitor["spec"]
    jobs.append(f"moderation/{monitor['metadata']['name']}")

    for job in (*jobs, "guard-service", "moderation/chat-gateway"):
        assert re.fullmatch(pattern, job), job
    assert not re.fullmatch(pattern, "api-gateway")


@pytest.mark.k(22)
@pytest.mark.parametrize("shipped", PLACES, ids=lambda place: place.parent.name)
def test_the_operators_object_has_the_rules_as_they_are(shipped: Path):
    assert shipped.read_text() == text(), "run: python -m deploy.prometheus.prometheus_rule"
    read = yaml.safe_load(shipped.read_text())
    assert read["spec"]["groups"] == GROUPS
    jsonschema.validate(read, json.loads(SCHEMA.read_text()))


@pytest.mark.k(22)
def test_expressions_are_read_by_a_second_parser_too():
    for group in GROUPS:
        for rule in group["rules"]:
            assert metric_names(rule["expr"]) or "vector(" in rule["expr"], rule
