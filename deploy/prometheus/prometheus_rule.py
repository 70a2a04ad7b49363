"""Write the rules as the Prometheus operator takes them, where kustomize and Helm find them."""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1]
RULES = DEPLOY / "prometheus" / "rules.yaml"
PLACES = (
    DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheus-rule.yaml",
    DEPLOY / "helm" / "moderation" / "prometheus-rule.yaml",
)
"""Neither kustomize nor Helm reads a file outside its own folder."""

_HEAD = "# Written from deploy/prometheus/rules.yaml: python -m deploy.prometheus.prometheus_rule\n"


def prometheus_rule() -> dict[str, Any]:
    """The object, in the namespace the manifests use."""
    labels = {"app.kubernetes.io/name": "moderation", "app.kubernetes.io/part-of": "moderation"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "moderation", "namespace": "moderation", "labels": labels},
        "spec": yaml.safe_load(RULES.read_text(encoding="utf-8")),
    }


def text() -> str:
    """The object as YAML."""
    return _HEAD + yaml.safe_dump(prometheus_rule(), sort_keys=False, width=120)


if __name__ == "__main__":
    for place in PLACES:
        place.write_text(text(), encoding="utf-8")
