"""What KEDA asks Prometheus: the sum over the pods of the most that each showed in a minute."""

import subprocess

import pytest
import yaml

from tests.deploy.manifests import name_of

SECONDS = 15
"""Between two scrapes."""

SHOWN = [
    ("moderation", "a", "0 900 0 0"),
    ("moderation", "b", "0 0 100 0"),
    ("other", "c", "5000x4"),
]
"""By which pod, and what at each scrape."""


@pytest.mark.k(12)
@pytest.mark.parametrize(
    ("name", "metric"), [("guard", "guard_queue_tokens"), ("gateway", "gateway_requests_in_flight")]
)
def test_a_short_peak_between_quiet_scrapes_counts(
    needs_binary, renderer, tmp_path, name: str, metric: str
):
    scaled = renderer.render("gke").find("ScaledObject", name)
    assert name_of(scaled) == name
    [trigger] = scaled["spec"]["triggers"]
    cases = {
        "evaluation_interval": f"{SECONDS}s",
        "tests": [
            {
                "interval": f"{SECONDS}s",
                "input_series": [
                    {
                        "series": f'{metric}{{namespace="moderation",pod="a"}}',
                        "values": "0 900 0 0",
                    },
                    {
                        "series": f'{metric}{{namespace="moderation",pod="b"}}',
                        "values": "0 0 100 0",
                    },
                    {"series": f'{metric}{{namespace="other",pod="c"}}', "values": "5000x4"},
                ],
                "promql_expr_test": [
                    {
                        "expr": trigger["metadata"]["query"],
                        "eval_time": f"{3 * SECONDS}s",
                        "exp_samples": [{"value": 1000}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(cases))
    promtool = [needs_binary("promtool"), "test", "rules", str(tmp_path / "test.yaml")]
    finished = subprocess.run(promtool, capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stdout + finished.stderr
