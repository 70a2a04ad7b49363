"""Model folders that are not what they should be: refused at the start, in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from guard_service.engine.loading import ModelSpec, load_engine
from guard_service.moderation import ConfigurationError
from guard_service.observer import NullObserver
from guard_service.prompt_formats import FORMATS

ONE_OF_MANY = "model.layers.1.mlp.down_proj.weight"


def load(folder: Path, adapter: Path | None = None) -> None:
    spec = ModelSpec(model=str(folder), adapter=adapter, device="cpu")
    load_engine(spec, FORMATS["llama-guard-2"], NullObserver())


def without(file: Path, name: str) -> None:
    tensors = load_file(file)
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})


def lose_a_tensor(folder: Path) -> None:
    without(folder / "model.safetensors", ONE_OF_MANY)


def lose_the_head(folder: Path) -> None:
    without(folder / "model.safetensors", "lm_head.weight")


def forget_a_layer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] -= 1
    (folder / "config.json").write_text(json.dumps(config))


def break_the_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def be_of_no_known_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "oracle"}')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_a_tensor, rf"missing or too many: {ONE_OF_MANY} \(1 tensors"),
        (lose_the_head, "too many: lm_head.weight"),
        (forget_a_layer, r"too many: model\.layers\.1"),
        (break_the_config, "cannot read config.json"),
        (be_of_no_known_type, "cannot read config.json"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(
    llama_folder: Path, tmp_path: Path, change: Callable[[Path], None], said: str
):
    """transformers would fill what is missing with random numbers, and judge with them."""
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    change(folder)

    with pytest.raises(ConfigurationError, match=said):
        load(folder)


def test_an_adapter_that_is_not_whole_is_refused(llama_folder: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(adapter)
    load(llama_folder, adapter)
    file = adapter / "adapter_model.safetensors"
    without(file, next(name for name in load_file(file) if "lora_B" in name))

    with pytest.raises(ConfigurationError, match="does not fit this model: Found missing adapter"):
        load(llama_folder, adapter)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match="does not fit this model: Error while deser"):
        load(llama_folder, adapter)
