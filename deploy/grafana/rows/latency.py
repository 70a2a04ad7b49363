"""Where the time goes."""

from deploy.grafana.colours import PHASE_QUANTILES
from deploy.grafana.panels import Kind, Panel, Query, Row, Unit, quantiles

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Verdict by stage, median",
            Unit.SECONDS,
            "Where the time of a verdict goes. A high queue means too few guards.",
            quantiles("guard_stage_seconds", "stage")[:1],
        ),
        Panel(
            "Verdict by stage, 99th percentile",
            Unit.SECONDS,
            "Where the time of the slowest verdicts goes.",
            quantiles("guard_stage_seconds", "stage")[1:],
        ),
        Panel(
            "Verdicts by time",
            Unit.SECONDS,
            "How many verdicts took how long, queue included.",
            (
                Query(
                    'sum by (le) (rate(guard_stage_seconds_bucket{HERE, stage="total"}[RATE]))',
                    "{{le}}",
                ),
            ),
            Kind.HEATMAP,
        ),
        Panel(
            "Delay by the guard",
            Unit.SECONDS,
            "How much later the guard made an answer start (prompt) or end (response).",
            quantiles("gateway_guard_delay_seconds", "phase"),
            colours=PHASE_QUANTILES,
        ),
        Panel(
            "Whole chats",
            Unit.SECONDS,
            "From the request to the end of the answer.",
            quantiles("gateway_request_seconds"),
        ),
        Panel(
            "Requests for verdicts alone",
            Unit.SECONDS,
            "POST /v1/moderations.",
            quantiles("gateway_moderation_seconds"),
        ),
    ),
)
