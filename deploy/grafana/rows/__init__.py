"""The rows of the dashboard, from what matters most to what explains it."""

from deploy.grafana.rows.capacity import CAPACITY
from deploy.grafana.rows.decisions import DECISIONS
from deploy.grafana.rows.generator import GENERATOR
from deploy.grafana.rows.latency import LATENCY
from deploy.grafana.rows.overview import OVERVIEW
from deploy.grafana.rows.resources import RESOURCES
from deploy.grafana.rows.streaming import STREAMING

ROWS = (OVERVIEW, LATENCY, DECISIONS, CAPACITY, STREAMING, GENERATOR, RESOURCES)
