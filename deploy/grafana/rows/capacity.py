"""How much of what there may be is in use."""

from deploy.grafana.colours import DROPPED
from deploy.grafana.panels import Panel, Query, Row, Unit

CAPACITY = Row(
    "Capacity",
    (
        Panel(
            "Use of the queue",
            Unit.SHARE,
            "Waiting tokens of those that may wait. More is shed; a stream's check may grow.",
            (Query("guard_queue_tokens{HERE} / guard_queue_max_tokens{HERE}", "{{instance}}"),),
        ),
        Panel(
            "Age of the queue",
            Unit.SECONDS,
            "How long its first prompt has waited, and how long no batch was finished.",
            (
                Query("guard_queue_oldest_age_seconds{HERE}", "{{instance}} oldest"),
                Query("guard_seconds_since_progress{HERE}", "{{instance}} no progress"),
            ),
        ),
        Panel(
            "Judgements without a verdict",
            Unit.PER_SECOND,
            "shed: refused at the door. expired: too late in the queue.",
            (Query("sum by (reason) (rate(guard_dropped_total{HERE}[RATE]))", "{{reason}}"),),
            colours=DROPPED,
        ),
        Panel(
            "Model at work",
            Unit.SHARE,
            "Share of the time in which the model scores. Near 1 it is the limit.",
            (Query("clamp_max(rate(guard_batch_seconds_sum{HERE}[RATE]), 1)", "{{instance}}"),),
        ),
        Panel(
            "Tokens scored",
            Unit.PER_SECOND,
            "New tokens, without cached prefixes.",
            (Query("rate(guard_batch_tokens_sum{HERE}[RATE])", "{{instance}}"),),
        ),
        Panel(
            "Prompts per batch",
            Unit.NUMBER,
            "The mean. It grows with the load.",
            (
                Query(
                    "rate(guard_batch_items_sum{HERE}[RATE]) "
                    "/ rate(guard_batch_items_count{HERE}[RATE])",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Batches cut down by memory",
            Unit.PER_SECOND,
            "Batches that did not fit the device; guards have taken smaller ones since.",
            (Query("rate(guard_out_of_memory_total{HERE}[RATE])", "{{instance}}"),),
        ),
        Panel(
            "Tokens a batch may have",
            Unit.NUMBER,
            "Below the setting max_batch_tokens once the device ran out of memory.",
            (Query("guard_max_batch_tokens{HERE}", "{{instance}}"),),
        ),
        Panel(
            "Prefix cache hits",
            Unit.SHARE,
            "Policy prompts that did not have to be computed. Low: raise prefix_cache_bytes.",
            (
                Query(
                    'sum by (instance) (rate(guard_prefix_cache_lookups_total{HERE, result="hit"}'
                    "[RATE])) "
                    "/ sum by (instance) (rate(guard_prefix_cache_lookups_total{HERE}[RATE]))",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Use of the gateway",
            Unit.SHARE,
            "Chats being answered of the requests that may be. Beyond, requests are refused.",
            (
                Query(
                    "gateway_requests_in_flight{HERE} / gateway_max_requests_in_flight{HERE}",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Use of streams",
            Unit.SHARE,
            "Open moderation streams of those that may be open.",
            (Query("guard_open_streams{HERE} / guard_max_open_streams{HERE}", "{{instance}}"),),
        ),
    ),
)
