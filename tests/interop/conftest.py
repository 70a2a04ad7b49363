"""A real guard for the clients of other languages."""

from collections.abc import Iterator

import pytest

from tests.command import logged, serving


@pytest.fixture(scope="session")
def guard() -> Iterator[str]:
    """Address of a guard process that judges with the embedded model."""
    with serving() as process:
        yield f"127.0.0.1:{logged(process, 'ready')['port']}"
