"""The processes, their audit trail and their releases."""

from deploy.grafana.panels import Panel, Query, Row, Unit

RESOURCES = Row(
    "Resources",
    (
        Panel(
            "Processor",
            Unit.NUMBER,
            "Cores in use.",
            (Query("rate(process_cpu_seconds_total{HERE}[RATE])", "{{instance}}"),),
        ),
        Panel(
            "Memory",
            Unit.BYTES,
            "Physical memory in use.",
            (Query("process_resident_memory_bytes{HERE}", "{{instance}}"),),
        ),
        Panel(
            "Age of the process",
            Unit.SECONDS,
            "A fall to zero is a restart.",
            (Query("time() - process_start_time_seconds{HERE}", "{{instance}}"),),
        ),
        Panel(
            "Open files",
            Unit.SHARE,
            "Sockets and files of those that may be open.",
            (Query("process_open_fds{HERE} / process_max_fds{HERE}", "{{instance}}"),),
        ),
        Panel(
            "Audit records",
            Unit.PER_SECOND,
            "dropped must stay at zero.",
            (
                Query(
                    "sum by (result) (rate(gateway_audit_records_total{HERE}[RATE]))", "{{result}}"
                ),
                Query("sum(rate(gateway_audit_write_errors_total{HERE}[RATE]))", "write errors"),
            ),
        ),
        Panel(
            "Policies of the guards",
            Unit.NUMBER,
            "Guards by policy and version. During a roll-out there are two.",
            (Query("count by (id, version) (guard_policy_info{HERE})", "{{id}} {{version}}"),),
        ),
    ),
)
