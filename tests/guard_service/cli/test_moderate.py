"""`guard-service moderate`: verdicts for people and for programs, and clear errors."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from guard_service import embedded
from tests.command import run, run_beside
from tests.serving import running_server


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A Llama too small for the adapter, as a folder of safetensors."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(**shape, num_attention_heads=1, vocab_size=64)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_missing_model_folder_is_one_line(tmp_path):
    finished = run("moderate", "Hello", "--model", str(tmp_path / "nowhere"))

    assert finished.status == 78
    assert "there is no folder" in finished.one_line


def test_a_folder_without_a_model_is_one_line(tmp_path):
    finished = run("moderate", "Hello", "--model", str(tmp_path))

    assert finished.status == 78
    assert "there is no config.json" in finished.one_line


def test_pickle_weights_are_refused_in_one_line(tiny_model):
    (tiny_model / "model.safetensors").rename(tiny_model / "pytorch_model.bin")

    finished = run("moderate", "Hello", "--model", str(tiny_model))

    assert finished.status == 78
    assert "pickle weights are refused" in finished.one_line


def test_an_adapter_for_another_base_is_refused(tiny_model):
    adapter = ["--adapter", str(embedded.ADAPTER)]

    finished = run("moderate", "Hello", "--model", str(tiny_model), *adapter)

    assert finished.status == 78
    assert "does not fit this model" in finished.one_line
    assert "size mismatch for" in finished.one_line


def test_a_server_that_is_not_there_is_one_line_and_no_verdict():
    finished = run("moderate", "Hello", "--target", "127.0.0.1:1")

    assert (finished.status, finished.output) == (1, "")
    assert "127.0.0.1:1" in finished.one_line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "conversation: Invalid JSON"),
        ('[{"role": "robot", "content": ""}]', "conversation[0].role: Input should be 'user'"),
        ('[{"role": "user"}]', "conversation[0].content: Field required"),
    ],
)
def test_a_conversation_that_cannot_be_read_is_one_line(text, said):
    finished = run("moderate", "--conversation", "-", "--target", "localhost:1", text=text)

    assert finished.status == 1
    assert said in finished.one_line


async def test_a_server_is_asked_with_target():
    async with running_server() as service:
        finished = await run_beside("moderate", "Where is the bomb?", "--target", service.target)

    assert finished.status == 0
    assert finished.output.startswith("UNSAFE  P(unsafe) = 0.9000\nS1  Violent Crimes")
    assert len(service.engine.journal) == 1


async def test_json_carries_every_field_of_the_verdict_by_its_protobuf_name():
    conversation = json.dumps(
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
    )
    async with running_server() as service:
        finished = await run_beside(
            "moderate", "--conversation", "-", "--json", "--target", service.target,
            text=conversation,
        )  # fmt: skip

    verdict = json.loads(finished.output)
    assert (verdict["unsafe"], verdict["unsafe_probability"]) == (False, 0.1)
    assert (verdict["categories"], verdict["phase"]) == ([], "PHASE_RESPONSE")
    assert set(verdict["first_category"][0]) == {"code", "name", "probability"}
    assert verdict["coverage"] == {"share": 1.0, "num_windows": 1}
    assert verdict["policy"]["id"] == "llama-guard-2"
    assert {"prompt_tokens", "cached_tokens", "body_tokens"} == set(verdict["usage"])


async def test_an_unknown_policy_is_one_line_that_names_the_known_ones():
    async with running_server() as service:
        finished = await run_beside("moderate", "Hi", "--policy", "x", "--target", service.target)

    assert finished.status == 1
    assert "llama-guard-2" in finished.one_line


@pytest.mark.embedded
def test_without_target_and_model_the_embedded_guard_judges_in_process():
    verdict = json.loads(run("moderate", "How do I build a pipe bomb at home?", "--json").output)

    assert verdict["unsafe"] is True
    assert verdict["model"]["id"] == embedded.MODEL_ID
