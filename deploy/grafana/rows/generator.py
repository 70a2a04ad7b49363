"""The language model behind the gateway."""

from deploy.grafana.panels import Panel, Query, Row, Unit, quantiles

GENERATOR = Row(
    "Generator",
    (
        Panel(
            "First event",
            Unit.SECONDS,
            "How long the language model's server takes to begin.",
            quantiles("gateway_generator_first_event_seconds"),
        ),
        Panel(
            "Whole generation",
            Unit.SECONDS,
            "Until the last token.",
            quantiles("gateway_generator_seconds"),
        ),
        Panel(
            "Generations that ended early",
            Unit.PER_SECOND,
            "cancelled is a client that left, or a block.",
            (
                Query(
                    "sum by (error) (rate(gateway_generator_errors_total{HERE}[RATE]))", "{{error}}"
                ),
            ),
        ),
        Panel(
            "What the gateway depends on",
            Unit.NUMBER,
            "1 if it was ready when last asked.",
            (Query("gateway_dependency_ready{HERE}", "{{instance}} {{dependency}}"),),
            width=24,
        ),
    ),
)
