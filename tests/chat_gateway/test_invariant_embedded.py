"""Nothing unjudged is released: the same promise against the real guard with its real model.

`python -m benchmarks.embedded_invariant` plays more of these, and thousands on a virtual clock.
"""

from collections.abc import Iterator

import pytest
import torch

from guard_service.embedded import ADAPTER, PROMPT_FORMAT, ensure
from guard_service.engine.protocol import Engine
from guard_service.settings import ModelSettings, load
from tests.chat_gateway.answers_by_chance import KINDS, scenarios
from tests.chat_gateway.judged_streams import prove_all, real_guard
from tests.running import loaded_engine

NUM_STREAMS = 3 * len(KINDS)

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    num_threads = torch.get_num_threads()
    folder = ensure(load(ModelSettings).cache_dir)
    yield loaded_engine(folder, ADAPTER, prompt_format=PROMPT_FORMAT)
    torch.set_num_threads(num_threads)


@pytest.mark.timeout(1800)  # nearly a minute of a free core, several of a shared one
async def test_no_character_is_released_before_the_real_guard_judged_it_safe(engine):
    async with real_guard(engine) as client:
        tally = await prove_all(client, scenarios(NUM_STREAMS))

    assert tally.streams == NUM_STREAMS
    assert tally.verdicts_compared >= NUM_STREAMS
    # What always ended the same way would prove nothing.
    assert tally.choices_passed >= NUM_STREAMS / 4
    assert tally.choices_blocked_after_some_text >= NUM_STREAMS / 12
    assert tally.crashed >= 1
