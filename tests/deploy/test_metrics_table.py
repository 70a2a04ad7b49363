"""The table of metrics in the operations guide is that of the code."""

from deploy.prometheus.metrics_table import registries, with_fresh_tables
from tests.deploy.processes import ROOT

PAGE = ROOT / "docs" / "operations.md"


def test_the_table_of_metrics_is_fresh():
    page = PAGE.read_text()

    assert page == with_fresh_tables(page), (
        "run: python -m deploy.prometheus.metrics_table docs/operations.md"
    )


def test_the_table_names_every_metric_once():
    page = PAGE.read_text()
    names = {family.name for registry in registries() for family in registry.collect()}

    assert len(names) > 50
    for name in names:
        rows = [
            line for line in page.splitlines() if line.startswith((f"| `{name}`", f"| `{name}_"))
        ]
        assert rows, name
