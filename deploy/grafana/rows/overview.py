"""Is it alive, is it slow, is it blocking too much? The first screen."""

from deploy.grafana.colours import OUTCOMES, VERDICTS
from deploy.grafana.panels import Kind, Panel, Query, Row, Unit

OVERVIEW = Row(
    "Alive, slow, blocking?",
    (
        Panel(
            "Guards ready",
            Unit.NUMBER,
            "Guards that take work, and all that are seen.",
            (
                Query("sum(guard_ready{HERE})", "ready"),
                Query("count(guard_ready{HERE})", "seen"),
            ),
            Kind.STAT,
            width=4,
            alarm=1,
            alarm_below=True,
        ),
        Panel(
            "Gateways ready",
            Unit.NUMBER,
            "Gateways that take requests, and all that are seen.",
            (
                Query("sum(gateway_ready{HERE})", "ready"),
                Query("count(gateway_ready{HERE})", "seen"),
            ),
            Kind.STAT,
            width=4,
            alarm=1,
            alarm_below=True,
        ),
        Panel(
            "Alerts firing",
            Unit.NUMBER,
            "docs/operations.md says what to do about each.",
            (
                Query(
                    'count(ALERTS{alertname=~"(Moderation|Guard|Gateway).+", alertstate="firing"}) '
                    "or vector(0)",
                    "firing",
                ),
            ),
            Kind.STAT,
            width=4,
            alarm=1,
        ),
        Panel(
            "Passed unjudged, last hour",
            Unit.NUMBER,
            "Texts that a policy with fail_open let pass while the guard was absent.",
            (Query("round(sum(increase(gateway_fail_open_total{HERE}[1h])))", "texts"),),
            Kind.STAT,
            width=4,
            alarm=1,
        ),
        Panel(
            "Objectives met, last hour",
            Unit.SHARE,
            "Share of requests within each objective.",
            (Query('1 - slo:error_ratio:rate1h{namespace=~"$namespace"}', "{{slo}}"),),
            Kind.STAT,
        ),
        Panel(
            "Burn of the error budget",
            Unit.NUMBER,
            "1 uses up the budget of 30 days in 30 days. Over 14.4 for an hour pages.",
            (
                Query(
                    'slo:error_ratio:rate1h{namespace=~"$namespace"} '
                    "/ on (slo) group_left () slo:error_budget:ratio",
                    "{{slo}} 1h",
                ),
                Query(
                    'slo:error_ratio:rate5m{namespace=~"$namespace"} '
                    "/ on (slo) group_left () slo:error_budget:ratio",
                    "{{slo}} 5m",
                ),
            ),
        ),
        Panel(
            "Chats by how they ended",
            Unit.PER_SECOND,
            "answered and ..._blocked are the gateway at work; refused is the caller's mistake.",
            (
                Query(
                    "sum by (outcome) (rate(gateway_requests_total{HERE}[RATE])) > 0", "{{outcome}}"
                ),
            ),
            Kind.STACKED,
            colours=OUTCOMES,
        ),
        Panel(
            "Verdicts by result",
            Unit.PER_SECOND,
            "What the guards said, on prompts and on answers at their checkpoints.",
            (
                Query(
                    "sum by (phase, result) (rate(guard_verdicts_total{HERE}[RATE]))",
                    "{{phase}} {{result}}",
                ),
            ),
            Kind.STACKED,
            colours=VERDICTS,
        ),
    ),
)
