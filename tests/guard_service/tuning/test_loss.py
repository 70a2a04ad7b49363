"""Behind a shared prefix the loss and its gradient are those of plain whole sequences."""

import random

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from guard_service.tuning.examples import Example
from guard_service.tuning.forwards import gather
from guard_service.tuning.model import answer_loss, unsafe_probabilities, with_lora
from tests.models import Shape, random_llama

WEIGHT = 3.0
SHAPE = Shape(vocabulary=300)
PREFIX = tuple(range(20, 43))
SAFE, UNSAFE = 7, 8


@pytest.fixture(scope="module")
def model():
    """With an adapter that changes something: a new one is all zero on one side."""
    adapted = with_lora(random_llama(2, SHAPE), rank=4, go_on_from=None)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapted


@pytest.fixture(scope="module")
def examples():
    rng = random.Random(5)
    return [
        Example(
            prefix=PREFIX,
            question=np.array([rng.randrange(50, 300) for _ in range(size)], dtype=np.int32),
            answer=(UNSAFE, 9, 10 + size, 2) if size % 2 else (SAFE, 2),
            unsafe=bool(size % 2),
        )
        for size in (3, 8, 15, 30, 31)
    ]


@pytest.fixture(scope="module")
def forward(examples):
    [one] = gather(examples, max_tokens=1000, random_=random.Random(0))
    return one


def whole_sequence_losses(model, example):
    """Loss of each token of an answer, from one plain forward of all tokens."""
    ids = torch.tensor([[*example.prefix, *example.question.tolist(), *example.answer]])
    logits = model(ids).logits[0, -len(example.answer) - 1 : -1]
    return cross_entropy(logits, torch.tensor(example.answer), reduction="none")


def gradients(model):
    found = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    model.zero_grad()
    return found


def test_loss_and_gradient_are_those_of_whole_sequences(model, examples, forward):
    losses = [whole_sequence_losses(model, each) for each in examples]
    weights = [torch.tensor([WEIGHT, *[1.0] * (len(each) - 1)]) for each in losses]
    wanted = (torch.cat(losses) * torch.cat(weights)).sum() / torch.cat(weights).sum()
    wanted.backward()
    wanted_gradients = gradients(model)

    loss, verdict_loss = answer_loss(model.get_base_model(), forward, verdict_weight=WEIGHT)
    loss.backward()
    found = gradients(model)

    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    mean = torch.stack([each[0] for each in losses]).mean()
    assert verdict_loss.item() == pytest.approx(mean.item(), abs=1e-5)
    assert len(found) == 2 * 7 * SHAPE.layers
    for name, gradient in wanted_gradients.items():
        assert gradient.abs().max() > 1e-4, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_p_unsafe_is_that_of_whole_sequences(model, examples, forward):
    wanted = []
    for example in examples:
        ids = torch.tensor([[*example.prefix, *example.question.tolist()]])
        logits = model(ids).logits[0, -1]
        wanted.append(logits[[SAFE, UNSAFE]].softmax(0)[1].item())

    found = unsafe_probabilities(model.get_base_model(), forward, safe=[SAFE], unsafe=[UNSAFE])

    assert sorted(found) == pytest.approx(sorted(wanted), abs=1e-5)
    of_unsafe = [p for p, unsafe in zip(found, forward.unsafe, strict=True) if unsafe]
    assert sorted(of_unsafe) == pytest.approx(
        sorted(p for p, each in zip(wanted, examples, strict=True) if each.unsafe), abs=1e-5
    )
