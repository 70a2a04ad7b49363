"""What was blocked, what passed, and why."""

from deploy.grafana.colours import BLOCKS_WITHOUT_VERDICT, PHASES, WITHOUT_VERDICT
from deploy.grafana.panels import Kind, Panel, Query, Row, Unit

DECISIONS = Row(
    "Decisions",
    (
        Panel(
            "Blocked share",
            Unit.SHARE,
            "Of prompts and of choices of answers. A step means a new policy, model or abuser.",
            (
                Query(
                    'sum by (phase) (rate(gateway_decisions_total{HERE, action="blocked"}[RATE])) '
                    "/ sum by (phase) (rate(gateway_decisions_total{HERE}[RATE]))",
                    "{{phase}}",
                ),
            ),
            colours=PHASES,
        ),
        Panel(
            "Blocks by phase and category",
            Unit.PER_SECOND,
            "none is a block without a verdict: the guard was absent or failed.",
            (
                Query(
                    "sum by (phase, category) (rate(gateway_blocks_total{HERE}[RATE])) > 0",
                    "{{phase}} {{category}}",
                ),
            ),
            Kind.STACKED,
            colours=BLOCKS_WITHOUT_VERDICT,
        ),
        Panel(
            "Fate of prompts and choices",
            Unit.PER_SECOND,
            "reported: unsafe, in a mode that never blocks. unjudged: passed without a verdict.",
            (
                Query(
                    "sum by (phase, action) (rate(gateway_decisions_total{HERE}[RATE]))",
                    "{{phase}} {{action}}",
                ),
            ),
        ),
        Panel(
            "Unsafe share of verdicts",
            Unit.SHARE,
            "The last hour beside the last day: a lasting gap means that the mix has shifted.",
            (
                Query(
                    'namespace_phase:guard_unsafe:ratio_rate1h{namespace=~"$namespace"}',
                    "{{phase}} 1h",
                ),
                Query(
                    'namespace_phase:guard_unsafe:ratio_rate1d{namespace=~"$namespace"}',
                    "{{phase}} 1d",
                ),
            ),
        ),
        Panel(
            "Violated categories",
            Unit.PER_SECOND,
            "What the guards found, by the categories of their model.",
            (
                Query(
                    "sum by (category) (rate(guard_violations_total{HERE}[RATE])) > 0",
                    "{{category}}",
                ),
            ),
            Kind.STACKED,
        ),
        Panel(
            "Without a verdict",
            Unit.PER_SECOND,
            "Texts that were blocked, or passed, because the guard said nothing.",
            (
                Query(
                    'sum by (phase) (rate(gateway_blocks_total{HERE, category="none"}[RATE]))',
                    "{{phase}} blocked",
                ),
                Query(
                    "sum by (phase) (rate(gateway_fail_open_total{HERE}[RATE]))", "{{phase}} passed"
                ),
            ),
            colours=WITHOUT_VERDICT,
        ),
    ),
)
