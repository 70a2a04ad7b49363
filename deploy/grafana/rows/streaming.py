"""What holding text back costs those who read it."""

from deploy.grafana.panels import Panel, Query, Row, Unit, quantiles

STREAMING = Row(
    "Streaming",
    (
        Panel(
            "Time to the first text",
            Unit.SECONDS,
            "What a person waits for: prompt verdict, generator and first check together.",
            quantiles("gateway_first_text_seconds"),
        ),
        Panel(
            "Text held back",
            Unit.SECONDS,
            "How long released text had waited for its verdict.",
            quantiles("gateway_held_seconds"),
        ),
        Panel(
            "Characters never released",
            Unit.SHARE,
            "Of all that the generator wrote.",
            (
                Query(
                    "sum(rate(gateway_withheld_characters_total{HERE}[RATE])) / "
                    "(sum(rate(gateway_withheld_characters_total{HERE}[RATE])) "
                    "+ sum(rate(gateway_released_characters_total{HERE}[RATE])))",
                    "withheld",
                ),
            ),
        ),
        Panel(
            "Checks per answer",
            Unit.NUMBER,
            "Verdicts on one choice of an answer, on average.",
            (
                Query(
                    'sum(rate(gateway_verdicts_total{HERE, phase="response"}[RATE])) '
                    '/ sum(rate(gateway_decisions_total{HERE, phase="response"}[RATE]))',
                    "checks",
                ),
            ),
        ),
        Panel(
            "Characters released",
            Unit.PER_SECOND,
            "What reached the clients.",
            (Query("sum(rate(gateway_released_characters_total{HERE}[RATE]))", "released"),),
        ),
        Panel(
            "Open streams",
            Unit.NUMBER,
            "Answers that a guard is judging while they grow.",
            (Query("guard_open_streams{HERE}", "{{instance}}"),),
        ),
    ),
)
