"""The main panels of the Grafana dashboard, and what a Prometheus says to their queries."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx

from deploy.grafana.panels import Panel, Query, Row
from deploy.grafana.rows import ROWS
from tests.deploy.monitored import for_prometheus

STEP_SECONDS = 1.0
RATE_SECONDS = 20
"""Grafana would take four scrapes at least; here that would be four seconds."""

MAIN = {
    "Guards ready",
    "Gateways ready",
    "Alerts firing",
    "Passed unjudged, last hour",
    "Objectives met, last hour",
    "Burn of the error budget",
    "Chats by how they ended",
    "Verdicts by result",
    "Verdict by stage, 99th percentile",
    "Verdicts by time",
    "Delay by the guard",
    "Blocked share",
    "Blocks by phase and category",
    "Without a verdict",
    "Use of the queue",
    "Judgements without a verdict",
    "Model at work",
    "Time to the first text",
    "Text held back",
    "Characters never released",
}


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel: a value, or NaN, at each of the times asked about."""

    name: str
    labels: Mapping[str, str]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """A panel with its data."""

    panel: Panel
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class FilledRow:
    """A titled row of panels with their data."""

    title: str
    panels: tuple[Filled, ...]


def main_rows() -> tuple[Row, ...]:
    """The dashboard's rows and panels in its order, without what is not in MAIN."""
    chosen = (
        Row(row.title, tuple(panel for panel in row.panels if panel.title in MAIN)) for row in ROWS
    )
    return tuple(row for row in chosen if row.panels)


def times(begin: float, end: float) -> tuple[float, ...]:
    """When Prometheus is asked for a value."""
    count = int((end - begin) / STEP_SECONDS)
    return tuple(begin + number * STEP_SECONDS for number in range(count + 1))


def fill(prometheus: httpx.Client, when: Sequence[float]) -> tuple[FilledRow, ...]:
    """The main rows with what this Prometheus recorded."""

    def filled(panel: Panel) -> Filled:
        series = [each for query in panel.queries for each in _ask(prometheus, query, when)]
        return Filled(panel, tuple(series))

    return tuple(FilledRow(row.title, tuple(map(filled, row.panels))) for row in main_rows())


def _ask(prometheus: httpx.Client, query: Query, when: Sequence[float]) -> Iterator[Series]:
    asked = {
        "query": for_prometheus(query.promql, f"{RATE_SECONDS}s"),
        "start": when[0],
        "end": when[-1],
        "step": STEP_SECONDS,
    }
    answer = prometheus.post("/api/v1/query_range", data=asked).raise_for_status().json()
    for result in answer["data"]["result"]:
        labels = result["metric"]
        values = [math.nan] * len(when)
        for at, value in result["values"]:
            values[round((at - when[0]) / STEP_SECONDS)] = float(value)
        yield Series(_legend(query.legend, labels), labels, tuple(values))


def _legend(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), legend).strip()
