"""What the tests of tuning share because it is slow to make."""

from pathlib import Path

import pytest

from guard_service.engine.vocabulary import Vocabulary
from tests.tokenizers import llama3_tokenizer


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary.from_pretrained_tokenizer(llama3_tokenizer())


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama that knows nothing, with the Llama 3 vocabulary."""
    # Importing torch takes seconds, which the tests of rows can do without.
    from tests.models import SMALL, random_llama  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("base")
    random_llama(3, SMALL).save_pretrained(folder)
    llama3_tokenizer().save_pretrained(folder)
    return folder
