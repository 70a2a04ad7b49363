"""The ports beside the ones that are served: metrics, and health for probes."""

from contextlib import AbstractContextManager, nullcontext

from chat_gateway.metrics import Metrics
from chat_gateway.settings import GatewaySettings
from guard_service.health_port import HealthPort
from guard_service.metrics_port import metrics_server


def metrics_port_of(
    settings: GatewaySettings, metrics: Metrics
) -> AbstractContextManager[int | None]:
    """Metrics while the context lasts, which is the port that was bound, if there is one."""
    if settings.metrics_port is None:
        return nullcontext()
    return metrics_server(metrics.registry, settings.host, settings.metrics_port)


def health_port_of(settings: GatewaySettings) -> AbstractContextManager[HealthPort | None]:
    """Health while the context lasts, if it has a port."""
    if settings.health_port is None:
        return nullcontext()
    return HealthPort(settings.host, settings.health_port, stall_seconds=settings.stall_seconds)
