"""The service says exactly what plain transformers says about the same weights and policy."""

from dataclasses import asdict
from pathlib import Path

import pytest

from guard_service.embedded import ADAPTER, PROMPT_FORMAT, ensure
from guard_service.settings import ModelSettings, load
from tests.conversations import everyday_conversations, random_conversations
from tests.equality import Equality, compare, expectations
from tests.models import SMALL, WIDE_HEADS, Shape, save_grammatical_llama
from tests.reference import Reference, ReferenceVerdict
from tests.running import loaded_engine, running_moderator

NUM_RANDOM, NUM_EMBEDDED = 150, 16


def require_equal(equality: Equality) -> None:
    for way in ("alone", "batched", "streamed", "checkpoints"):
        comparison = getattr(equality, way)
        assert comparison.num_verdicts > 0, way
        assert comparison.equal, f"{way}: {asdict(comparison)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "shape", "prompt_format"),
    [
        pytest.param(1, SMALL, "llama-guard-2", id="small"),
        pytest.param(2, WIDE_HEADS, "llama-guard-2", id="wide"),
        pytest.param(3, SMALL, "compact", id="compact"),
    ],
)
async def test_random_llamas_are_judged_as_transformers_judges_them(
    tmp_path: Path, seed: int, shape: Shape, prompt_format: str
):
    folder = save_grammatical_llama(tmp_path, seed, shape, prompt_format=prompt_format)
    conversations = list(random_conversations(seed, NUM_RANDOM))
    expected = expectations(Reference.load(folder), conversations)

    engine = loaded_engine(folder, prompt_format=prompt_format)
    async with running_moderator(engine) as moderator:
        equality = await compare(moderator, conversations, expected, seed=seed)

    require_equal(equality)
    require_variety(expected)


def require_variety(expected: list[ReferenceVerdict]) -> None:
    """A model that always said the same would prove nothing."""
    num_unsafe = sum(each.unsafe for each in expected)
    assert len(expected) / 4 < num_unsafe < len(expected) * 3 / 4
    assert sum(len(each.codes) > 1 for each in expected) >= 5
    assert len({each.codes for each in expected}) >= 10


@pytest.mark.slow
@pytest.mark.embedded
@pytest.mark.timeout(1200)
async def test_the_embedded_guard_is_judged_as_transformers_judges_it():
    folder = ensure(load(ModelSettings).cache_dir)
    conversations = list(everyday_conversations(3, NUM_EMBEDDED))
    reference = Reference.load(folder, ADAPTER, prompt_format=PROMPT_FORMAT)
    expected = expectations(reference, conversations)

    engine = loaded_engine(folder, ADAPTER, prompt_format=PROMPT_FORMAT)
    async with running_moderator(engine) as moderator:
        equality = await compare(moderator, conversations, expected, seed=3)

    require_equal(equality)
    assert len({each.unsafe for each in expected}) == 2
