"""A Llama and its tokenizer from their files: fetched, refused if not to be trusted, loaded."""

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from guard_service.moderation import ConfigurationError
from guard_service.weights import ALLOWED_FILES

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """In what numbers the weights are kept, and where.

    `dtype` is auto, float32, bfloat16 or float16; `device` is auto, cpu, cuda, cuda:N, or balanced
    (layers over all GPUs); `quantisation` is none, 8bit or 4bit.
    """

    dtype: str = "auto"
    device: str = "auto"
    quantisation: str = "none"

    def resolved_device(self) -> str:
        """Where the weights will be: never auto.

        Raises:
            ConfigurationError: There is no such device.
        """
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.device != "cpu" and not torch.cuda.is_available():
            raise ConfigurationError(f"device: '{self.device}' needs a GPU, and torch sees none")
        return self.device


def set_up_torch(num_threads: int) -> None:
    """Compute on so many threads, 0 for one less than there are cores; no bars in a log."""
    torch.set_num_threads(num_threads or max(1, len(os.sched_getaffinity(0)) - 1))
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()


def model_folder(model: str, revision: str | None, *, more_files: tuple[str, ...] = ()) -> Path:
    """Where the files of a model are; one of a hub is downloaded first, at its pinned revision.

    `more_files` are patterns of names to download beside tensors, configuration and tokenizer.

    Raises:
        ConfigurationError: It is no folder, and cannot be had from the hub either.
    """
    if Path(model).is_dir():
        return Path(model)
    if "/" not in model or revision is None:
        raise ConfigurationError(
            f"model: there is no folder '{model}'; a hub id needs a pinned revision"
        )
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow, and for hub models only

    try:
        return Path(
            snapshot_download(
                model, revision=revision, allow_patterns=[*ALLOWED_FILES, *more_files]
            )
        )
    # Its errors are also those of whatever HTTP library it is built on.
    except Exception as error:
        raise ConfigurationError(
            f"model: cannot fetch '{model}' at {revision} ({type(error).__name__}); "
            "check the name, the revision, your access to gated models (HF_TOKEN) and the network"
        ) from error


def load_llama(
    folder: Path, placement: Placement, *, attention: str | None = None
) -> LlamaForCausalLM:
    """The model in `folder`; `attention` names the implementation, if not transformers' own.

    Raises:
        ConfigurationError: one line that names what is wrong with the folder or the device.
    """
    _require_llama(folder)
    device = placement.resolved_device()
    dtype = _DTYPES.get(placement.dtype) or (torch.float32 if device == "cpu" else "auto")
    try:
        model, report = LlamaForCausalLM.from_pretrained(
            folder,
            output_loading_info=True,
            dtype=dtype,
            device_map="balanced" if device == "balanced" else {"": device},
            quantization_config=_quantisation(placement.quantisation),
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ConfigurationError(f"model: cannot load '{folder}': {first_line(error)}") from error
    # What is missing would be made up of random numbers, and what is too much left out.
    if wrong := sorted({*report["missing_keys"], *report["unexpected_keys"]}):
        raise ConfigurationError(
            f"model: the weights in '{folder}' are not those of its config.json; missing or too "
            f"many: {wrong[0]} ({len(wrong)} tensors in all)"
        )
    if any(parameter.device.type in {"meta", "disk"} for parameter in model.parameters()):
        raise ConfigurationError(f"model: '{folder}' does not fit the memory of the devices")
    return cast("LlamaForCausalLM", model.eval())


def load_adapter(model: LlamaForCausalLM, folder: Path, *, trainable: bool = False) -> Any:
    """The model with the PEFT adapter in `folder` on it.

    Raises:
        ConfigurationError: there is none, or it does not fit the model.
    """
    from peft import PeftModel  # noqa: PLC0415 - slow to import, and only adapters need it

    if not (folder / "adapter_model.safetensors").is_file():
        raise ConfigurationError(f"adapter: there is no adapter_model.safetensors in '{folder}'")
    try:
        with warnings.catch_warnings():
            # peft asks transformers for something by its former name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(
                model, folder, is_trainable=trainable, use_safetensors=True
            )
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        TypeError,
        UserWarning,
        SafetensorError,
    ) as error:
        raise ConfigurationError(
            f"adapter: '{folder}' does not fit this model: {first_line(error)}"
        ) from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in `folder`.

    Raises:
        ConfigurationError: There is none, or not one of the fast kind.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"model: cannot load the tokenizer in '{folder}': {first_line(error)}"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigurationError(f"model: '{folder}' has no tokenizer.json")
    return tokenizer


def first_line(error: BaseException) -> str:
    """What a library says of an error, short enough for a line of ours.

    A first line that ends in a colon says nothing without the next.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _require_llama(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"model: there is no config.json in '{folder}'")
    if not any(folder.glob("*.safetensors")):
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        advice = "pickle weights are refused; convert them to" if pickles else "there is no"
        raise ConfigurationError(f"model: {advice} safetensors in '{folder}'")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"model: cannot read config.json in '{folder}': {first_line(error)}"
        ) from error
    if config.model_type != "llama":
        raise ConfigurationError(
            f"model: '{folder}' is of type '{config.model_type}'; only 'llama' can be served"
        )


def _quantisation(wanted: str) -> BitsAndBytesConfig | None:
    match wanted:
        case "8bit":
            return BitsAndBytesConfig(load_in_8bit=True)
        case "4bit":
            return BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
            )
        case _:
            return None
