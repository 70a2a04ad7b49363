"""Write what Grafana imports: `python -m deploy.grafana.dashboard FILE`."""

import sys
from itertools import count
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.panels import Kind, Panel, Unit
from deploy.grafana.rows import ROWS

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
SEEN = '{__name__=~"guard_ready|gateway_ready"}'
HEIGHT, STAT_HEIGHT = 8, 5


def build() -> model.Dashboard:
    """The dashboard, from the rows of panels."""
    board = (
        dashboard.Dashboard("Moderation: guard-service and chat-gateway")
        .uid("moderation")
        .tags(["moderation", "guard-service", "chat-gateway"])
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data").type("prometheus"))
        .with_variable(_label("namespace", SEEN).all_value(".*"))
        .with_variable(
            _label("job", '{__name__=~"guard_ready|gateway_ready", namespace=~"$namespace"}')
        )
        .with_variable(
            _label(
                "instance",
                '{__name__=~"guard_ready|gateway_ready", namespace=~"$namespace", job=~"$job"}',
            )
        )
    )
    ids = count(1)
    for row in ROWS:
        board.with_row(dashboard.Row(row.title).id(next(ids)))
        for panel in row.panels:
            board.with_panel(_PANELS[panel.kind](panel).id(next(ids)))
    return board.build()


def write(path: Path) -> None:
    """Write the dashboard as JSON."""
    path.write_text(JSONEncoder(sort_keys=True, indent=2).encode(build()) + "\n", encoding="utf-8")


def _label(name: str, series: str) -> dashboard.QueryVariable:
    everything = model.VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .query(f"label_values({series}, {name})")
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(everything)
    )


def _filled(builder: Any, panel: Panel) -> Any:
    """What every kind of panel has."""
    builder.title(panel.title).description(panel.description).datasource(SOURCE)
    builder.unit(panel.unit).span(panel.width).height(HEIGHT)
    form = PromQueryFormat.HEATMAP if panel.kind is Kind.HEATMAP else PromQueryFormat.TIME_SERIES
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        builder.with_target(
            prometheus.Dataquery()
            .expr(query.promql)
            .legend_format(query.legend)
            .ref_id(letter)
            .range()
            .format(form)
        )
    return builder


def _chart(panel: Panel) -> Any:
    chart = _filled(timeseries.Panel(), panel).min(0).fill_opacity(8).line_width(1.5)
    chart.show_points(options.VisibilityMode.NEVER)
    chart.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
    chart.legend(
        common.VizLegendOptions()
        .display_mode(options.LegendDisplayMode.LIST)
        .placement(options.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    for name, colour in panel.colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        chart.override_by_name(name, [model.DynamicConfigValue(id_val="color", value=fixed)])
    return chart


def _stacked(panel: Panel) -> Any:
    stacking = common.StackingConfig().mode(options.StackingMode.NORMAL)
    return _chart(panel).stacking(stacking).fill_opacity(40)


def _stat(panel: Panel) -> Any:
    number = _filled(stat.Panel(), panel).height(STAT_HEIGHT)
    number.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    number.text_mode(options.BigValueTextMode.VALUE_AND_NAME)
    number.graph_mode(options.BigValueGraphMode.NONE)
    if panel.unit is Unit.SHARE:
        number.decimals(2)
    if panel.alarm is not None:
        number.thresholds(_thresholds(panel.alarm, below=panel.alarm_below))
    return number


def _thresholds(alarm: float, *, below: bool) -> dashboard.ThresholdsConfig:
    low, high = ("red", "green") if below else ("green", "red")
    steps = [model.Threshold(value=None, color=low), model.Threshold(value=alarm, color=high)]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _heatmap(panel: Panel) -> Any:
    return _filled(heatmap.Panel(), panel).calculate(calculate=False)


_PANELS = {
    Kind.LINES: _chart,
    Kind.STACKED: _stacked,
    Kind.STAT: _stat,
    Kind.HEATMAP: _heatmap,
}

if __name__ == "__main__":
    write(Path(sys.argv[1]))
