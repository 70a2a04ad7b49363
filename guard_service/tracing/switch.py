"""Tracing on or off, as the settings want it."""

from guard_service.moderation import ConfigurationError
from guard_service.settings import ServeSettings
from guard_service.tracing.off import NoTracing


def read_tracing(settings: ServeSettings) -> NoTracing:
    """Tracing as the settings want it.

    Raises:
        ConfigurationError: OpenTelemetry is not installed, or cannot use its own variables.
    """
    if settings.otlp_endpoint is None:
        return NoTracing()
    try:
        # Switched off, it costs nothing, and need not be installed.
        from guard_service.tracing.collector import Collector  # noqa: PLC0415
        from guard_service.tracing.on import Tracing  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: to send spans, install the extra 'tracing' "
            "(pip install 'guard-service[tracing]')"
        ) from error
    collector = Collector(
        settings.otlp_endpoint,
        service="guard-service",
        sample_ratio=settings.trace_sample_ratio,
    )
    return Tracing(collector)
