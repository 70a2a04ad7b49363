"""Tracing on or off, as the settings want it."""

from chat_gateway.settings import GatewaySettings
from chat_gateway.tracing.off import NO_TRACING, NoTracing
from guard_service.moderation import ConfigurationError


def read_tracing(settings: GatewaySettings, *, service: str = "chat-gateway") -> NoTracing:
    """Tracing as the settings want it; `service` is what its spans say they are from.

    Ask it for log processors and for the exemplars of the metrics, enter its `exporting` context,
    and give it to whatever `composition` puts together.

    Raises:
        ConfigurationError: OpenTelemetry is not installed, or cannot use its own variables.
    """
    if settings.otlp_endpoint is None:
        return NO_TRACING
    try:
        # Switched off, it costs nothing, and need not be installed.
        from chat_gateway.tracing.on import Tracing  # noqa: PLC0415
        from guard_service.tracing.collector import Collector  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: to send spans, install the extra 'tracing' "
            "(pip install 'guard-service[tracing]')"
        ) from error
    collector = Collector(
        settings.otlp_endpoint, service=service, sample_ratio=settings.trace_sample_ratio
    )
    return Tracing(collector)
