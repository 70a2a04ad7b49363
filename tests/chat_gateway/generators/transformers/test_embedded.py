"""The embedded default, for real: a small model that any machine can run."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import torch
from platformdirs import user_cache_path
from transformers import AutoTokenizer, LlamaForCausalLM

from chat_gateway.chat import (
    ChatMessage,
    ChatRequest,
    ChoiceFinished,
    FinishReason,
    Sampling,
    TextDelta,
)
from chat_gateway.generators.transformers import (
    GeneratorSpec,
    TransformersGenerator,
    load_generator,
)
from guard_service.embedded import ensure
from guard_service.moderation import Role

NAME = "smollm2-135m-instruct"
QUESTION = "What is the capital of France? Answer in one word."

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def folder() -> str:
    return str(ensure(user_cache_path("guard-service")))


@pytest.fixture(scope="module")
def generator(folder: str) -> Iterator[TransformersGenerator]:
    loaded = load_generator(GeneratorSpec(model=folder, name=NAME, device="cpu"))
    yield loaded
    asyncio.run(loaded.close())


def plain_answer(folder: str, max_tokens: int) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False
    )
    return tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)


async def test_the_embedded_model_answers_as_plain_transformers_does(
    folder: str, generator: TransformersGenerator
):
    request = ChatRequest(
        (ChatMessage(Role.USER, QUESTION),), NAME, Sampling(temperature=0.0, max_tokens=24)
    )
    deadline = time.monotonic() + 120
    events = [event async for event in generator.generate(request, deadline=deadline)]

    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == plain_answer(folder, 24)
    assert "Paris" in text
    assert ChoiceFinished(0, FinishReason.STOP) in events
