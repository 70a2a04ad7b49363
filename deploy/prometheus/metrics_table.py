"""Keep the tables of metrics in a page fresh: `python -m deploy.prometheus.metrics_table PAGE`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from chat_gateway.metrics import Metrics as GatewayMetrics
from chat_gateway.policy import GatewayPolicy
from guard_service.metrics import Metrics as GuardMetrics
from guard_service.moderation import ModelInfo
from guard_service.policy import default_policy

BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->"
MAX_VALUES = 10
"""Labels with more values than this are named without them."""

_OPEN = {
    "id",
    "revision",
    "prompt_format",
    "version",
    "digest",
    "mode",
    "guard_policy_id",
    "fail_open",
}
"""Labels whose values are facts of an installation."""

_HEAD = "| metric | type | labels | meaning |\n|---|---|---|---|\n"
_SUFFIX = {"counter": "_total", "info": "_info"}


class _Queue:
    num_queued_items = num_queued_tokens = 0
    max_queue_items = max_queue_tokens = max_batch_tokens = 0
    oldest_age_seconds = seconds_since_progress = 0.0


def registries() -> tuple[CollectorRegistry, CollectorRegistry]:
    """Everything the guard exports, and everything the gateway does."""
    policy = default_policy("llama-guard-2")
    guard = GuardMetrics(category.code for category in policy.categories)
    guard.show_model(ModelInfo("", "", policy.prompt_format))
    guard.show_policies([policy])
    guard.watch_queue(_Queue())
    guard.watch_streams(lambda: 0, max_streams=0)
    gateway = GatewayMetrics()
    gateway.show_policies([GatewayPolicy()])
    return guard.registry, gateway.registry


def with_fresh_tables(page: str) -> str:
    """The page with its tables as they should be."""
    above, _, rest = page.partition(BEGIN)
    _, end, below = rest.partition(END)
    return above + BEGIN + "\n" + "\n".join(_tables()) + "\n" + end + below


def _tables() -> Iterator[str]:
    seen: set[str] = set()
    for registry in registries():
        rows = {_name(each): _row(each) for each in registry.collect()}
        yield _HEAD + "".join(row for name, row in rows.items() if name not in seen)
        seen |= rows.keys()


def _name(metric: Metric) -> str:
    return metric.name + _SUFFIX.get(metric.type, "")


def _row(metric: Metric) -> str:
    labels = "; ".join(_labels(metric)) or "-"
    return f"| `{_name(metric)}` | {metric.type} | {labels} | {metric.documentation} |\n"


def _labels(metric: Metric) -> Iterator[str]:
    names = dict.fromkeys(name for sample in metric.samples for name in sample.labels)
    for name in names:
        if name == "le":
            continue
        values = dict.fromkeys(s.labels[name] for s in metric.samples if name in s.labels)
        if name in _OPEN or len(values) > MAX_VALUES:
            yield f"`{name}`"
        else:
            yield f"`{name}`: {', '.join(values)}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_fresh_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
