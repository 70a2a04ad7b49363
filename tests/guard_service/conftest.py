"""What several tests of the guard share because it is slow to make."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama with the Llama 3 vocabulary whose answers are verdicts."""
    # Importing torch takes seconds, which most tests can do without.
    from tests.models import save_grammatical_llama  # noqa: PLC0415

    return save_grammatical_llama(tmp_path_factory.mktemp("llama"), seed=4)
