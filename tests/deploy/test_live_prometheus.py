"""A real Prometheus beside the real services: every rule and every panel has something to show."""

import asyncio
import json
from collections.abc import Callable, Iterator

import grpc
import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.grafana.rows import ROWS
from guard_service.v1 import guard_pb2_grpc
from tests.deploy.monitored import (
    HARMLESS,
    OPEN,
    PROMETHEUS,
    Watched,
    for_prometheus,
    use,
    watched_services,
)
from tests.deploy.processes import until
from tests.deploy.promql import GIVEN, metric_names
from tests.serving import asking

RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = sorted({rule["record"] for rule in RULES if "record" in rule})
ALERTS = {rule["alert"]: rule["expr"] for rule in RULES if "alert" in rule}
OF_THE_LOAD = (
    "namespace:guard_shed:ratio_rate5m",
    'namespace_phase:gateway_blocks:ratio_rate5m{phase="prompt"}',
    'namespace_phase:guard_unsafe:ratio_rate1h{phase="prompt"}',
    'slo:error_ratio:rate5m{slo="verdict-availability"}',
)
"""Above zero once shed, blocked and unsafe prompts were seen."""

QUERIES = {
    f"{panel.title}: {query.legend}": query.promql
    for row in ROWS
    for panel in row.panels
    for query in panel.queries
}


@pytest.fixture(scope="module")
def watched(
    needs_binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """Services that were used until the recording rules had recorded what there was to see."""
    with watched_services(needs_binary, tmp_path_factory.mktemp("watched")) as watched:

        def look() -> bool | None:
            use(watched)
            asyncio.run(flood(watched.guard_target))
            return shows_all(watched) or None

        until(look, "every recording rule has recorded a number, and the load shows in them")
        yield watched


def shows_all(watched: Watched) -> bool:
    recorded = all(map(watched.numbers, RECORDED))
    return recorded and all(max(watched.numbers(each), default=0) > 0 for each in OF_THE_LOAD)


async def flood(target: str) -> None:
    """More at once than the guard's queue takes."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub = guard_pb2_grpc.GuardServiceStub(channel)
        calls = [stub.Moderate(asking(HARMLESS), timeout=30) for _ in range(12)]
        await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.k(22)
def test_every_recording_rule_records_numbers(watched: Watched):
    assert {name for name in RECORDED if not watched.numbers(name)} == set()


@pytest.mark.k(22)
def test_the_load_shows_in_the_numbers(watched: Watched):
    for expression in OF_THE_LOAD:
        assert watched.numbers(expression)[0] > 0, expression
    assert watched.numbers('slo:error_ratio:rate5m{slo="gateway-availability"}') == [0]


@pytest.mark.k(22)
def test_prometheus_takes_every_rule_as_it_is(watched: Watched):
    answer = watched.prometheus.get("/api/v1/rules").json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    assert len(rules) == len(RULES)
    assert {rule["health"] for rule in rules} == {"ok"}, [r for r in rules if r["health"] != "ok"]


@pytest.mark.k(22)
@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_can_be_asked_about(watched: Watched, name: str):
    watched.query(ALERTS[name])


@pytest.mark.k(23)
@pytest.mark.parametrize("name", QUERIES)
def test_every_panel_shows_numbers(watched: Watched, name: str):
    expression = for_prometheus(QUERIES[name])

    assert watched.numbers(expression), expression


@pytest.mark.k(23)
def test_every_metric_asked_for_is_exported(watched: Watched):
    """By rules and panels, down to the labels they choose by."""
    families = [
        family
        for url in watched.metrics_urls
        for family in text_string_to_metric_families(httpx.get(url).text)
    ]
    exported = {sample.name for family in families for sample in family.samples}
    asked = {*map(str, ALERTS.values()), *QUERIES.values()}
    asked |= {rule["expr"] for rule in RULES if "record" in rule}
    names = set().union(*(metric_names(for_prometheus(each)) for each in asked))

    assert names - exported - set(RECORDED) - GIVEN == set()


@pytest.mark.k(22)
def test_text_that_passes_unjudged_reaches_whoever_is_on_call(watched: Watched):
    """The last of these tests: it ends the guard."""
    watched.guard.kill()

    answer = watched.ask(HARMLESS, policy=OPEN)
    pages = until(lambda: pages_of(watched, "GatewayFailOpen"), "the alert is delivered")

    assert answer.headers["x-guard-unjudged"]
    [page] = pages
    assert page["status"] == "firing"
    assert page["labels"]["severity"] == "page"
    assert page["annotations"]["runbook_url"] == "docs/operations.md#gatewayfailopen"
    assert HARMLESS not in json.dumps(pages)


def pages_of(watched: Watched, alert: str) -> list[dict[str, object]] | None:
    """The next delivery's alerts of this name, if it has any; by phase there may be two."""
    if watched.delivered.empty():
        return None
    told = watched.delivered.get()
    if told["receiver"] != "pages":
        return None
    return [each for each in told["alerts"] if each["labels"]["alertname"] == alert][:1] or None
