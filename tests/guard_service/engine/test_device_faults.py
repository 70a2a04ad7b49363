"""What the engine makes of a device that is full, or broken for good."""

import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guard_service.engine import transformers_engine
from guard_service.engine.protocol import EngineLost, Judgement
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.moderation import OutOfMemory
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from tests.prompts import said
from tests.running import loaded_engine

POLICY = default_policy("llama-guard-2")

BROKEN = [
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: misaligned address",
    "CUDA error: unspecified launch failure",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
    "CUDA error: out of memory after: an illegal memory access was encountered",
]
FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.fixture(scope="module")
def engine(llama_folder: Path) -> TransformersEngine:
    engine = loaded_engine(llama_folder)
    engine.prepare(len(POLICY.categories))
    return engine


@pytest.fixture
def judgement(engine: TransformersEngine) -> Judgement:
    prompt = FORMATS["llama-guard-2"].render(said(("user", "Hello there")), POLICY)
    return Judgement(engine.encode(prompt), len(POLICY.categories), 0.5)


def break_forward(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]) -> None:
    def broken(*_: object) -> None:
        fail()

    monkeypatch.setattr(transformers_engine, "forward", broken)


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_device_is_lost(engine, judgement, monkeypatch, text: str):
    break_forward(monkeypatch, raising(RuntimeError(text)))

    with pytest.raises(EngineLost):
        engine.score([judgement])


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_device_is_out_of_memory_and_can_be_used_again(
    engine, judgement, monkeypatch, error: Exception
):
    engine.score([judgement])  # from now on the prefix is cached
    before = engine.score([judgement])
    with monkeypatch.context() as patched:
        break_forward(patched, raising(error))
        with pytest.raises(OutOfMemory, match="max_context_tokens"):
            engine.score([judgement])

    assert engine.score([judgement]) == before


def test_what_the_processor_says_when_memory_runs_out_is_understood(engine, judgement, monkeypatch):
    break_forward(monkeypatch, lambda: torch.empty(2**60, dtype=torch.uint8))

    with pytest.raises(OutOfMemory):
        engine.score([judgement])


def test_what_the_failed_forward_held_is_free_when_the_error_arrives(
    engine, judgement, monkeypatch
):
    held = []

    def fail() -> None:
        tensor = torch.zeros(8)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    break_forward(monkeypatch, fail)

    with pytest.raises(OutOfMemory) as caught:
        engine.score([judgement])
    assert [reference() for reference in held] == [None]
    assert caught.value.__context__ is None


def test_any_other_error_is_not_the_devices(engine, judgement, monkeypatch):
    break_forward(monkeypatch, raising(RuntimeError("shapes cannot be multiplied")))

    with pytest.raises(RuntimeError, match="shapes"):
        engine.score([judgement])
