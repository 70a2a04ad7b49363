"""What every test of tracing stands on."""

import logging
from collections.abc import Iterator

import pytest

from tests.tracing.collector import Collector, collecting


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(autouse=True)
def library_log() -> Iterator[None]:
    """Tracing silences OpenTelemetry's own log; the next test finds it as it was."""
    library = logging.getLogger("opentelemetry")
    level = library.level
    yield
    library.setLevel(level)
