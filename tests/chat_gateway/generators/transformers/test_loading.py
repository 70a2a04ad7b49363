"""What may be loaded as a chat model, and what is refused with a line that helps."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from chat_gateway.generators.transformers import GeneratorSpec, load_generator
from guard_service.moderation import ConfigurationError
from tests.chat_gateway.chat_models import save_chat_llama
from tests.models import Shape, random_llama

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_llama(tmp_path_factory.mktemp("sound"), seed=2, shape=Shape(context=256))


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"nothing")


def with_a_tensor_lost(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def with_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def of_another_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without_config, "there is no config.json"),
        (without_weights, "there is no safetensors"),
        (with_pickles, "pickle weights are refused"),
        (with_broken_weights, "cannot load"),
        (with_a_tensor_lost, "not those of its config.json"),
        (with_broken_config, "cannot read config.json"),
        (of_another_kind, "only 'llama' can be served"),
        (without_template, "no chat template"),
        (without_tokenizer, "tokenizer"),
    ],
)
def test_a_folder_that_cannot_be_trusted_is_refused(
    sound: Path, tmp_path: Path, damage: Callable[[Path], None], complaint: str
):
    folder = Path(shutil.copytree(sound, tmp_path / "damaged"))
    damage(folder)

    with pytest.raises(ConfigurationError, match=complaint) as refused:
        load_generator(GeneratorSpec(model=str(folder), device="cpu"))

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("model", ["no-such-folder", "meta-llama/Meta-Llama-3-8B-Instruct"])
def test_a_model_that_is_no_folder_needs_a_pinned_revision(model: str):
    with pytest.raises(ConfigurationError, match="a hub id needs a pinned revision"):
        load_generator(GeneratorSpec(model=model, device="cpu"))


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "balanced"])
def test_a_gpu_that_is_not_there_is_refused(sound: Path, device: str):
    with pytest.raises(ConfigurationError, match=f"device: '{device}' needs a GPU"):
        load_generator(GeneratorSpec(model=str(sound), device=device))


def test_compiling_without_a_gpu_is_refused_not_ignored(sound: Path):
    with pytest.raises(ConfigurationError, match="compile: it needs a GPU"):
        load_generator(GeneratorSpec(model=str(sound), device="cpu", compile=True))


def test_a_draft_with_another_vocabulary_is_refused(sound: Path, tmp_path: Path):
    draft = Path(shutil.copytree(sound, tmp_path / "draft"))
    tokenizer = json.loads((draft / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (draft / "tokenizer.json").write_text(json.dumps(tokenizer))

    with pytest.raises(ConfigurationError, match="draft_model: it has another vocabulary"):
        load_generator(GeneratorSpec(model=str(sound), draft_model=str(draft), device="cpu"))


def test_the_model_is_named_by_its_folder_unless_it_has_a_name(sound: Path):
    generator = load_generator(GeneratorSpec(model=str(sound), device="cpu"))
    asyncio.run(generator.close())

    assert generator.models == (str(sound),)


def test_the_context_is_never_longer_than_the_model_was_trained_for(sound: Path):
    generator = load_generator(GeneratorSpec(model=str(sound), device="cpu"))
    asyncio.run(generator.close())

    assert generator._max_context_tokens == 256


def test_what_the_files_say_of_sampling_is_not_mixed_in(sound: Path, tmp_path: Path):
    folder = Path(shutil.copytree(sound, tmp_path / "opinionated"))
    model = random_llama(2, Shape(context=256), tied=False)
    model.generation_config.update(do_sample=True, top_k=3, eos_token_id=[5, 6])
    model.generation_config.save_pretrained(folder)
    generator = load_generator(GeneratorSpec(model=str(folder), device="cpu"))
    asyncio.run(generator.close())

    assert generator._writer.terminators == (5, 6, 128_001, 128_009)
    assert generator._writer.model.generation_config.top_k is None
