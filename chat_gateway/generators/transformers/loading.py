"""Load a chat model and its vocabulary into a generator; refuse what cannot be trusted."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from chat_gateway.chat import GeneratorFailed
from chat_gateway.generators.transformers.chat_prompt import ChatPrompts
from chat_gateway.generators.transformers.generator import TransformersGenerator
from chat_gateway.generators.transformers.vocabulary import decoder, terminators
from chat_gateway.generators.transformers.writing import LlamaWriter
from guard_service.moderation import ConfigurationError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSpec:
    """Which weights to load, and how.

    `model` is a folder, or a hub id with its 40-digit `revision`; `draft_model` is a folder. `name`
    is what requests call it, if not by `model`. `device` is auto, cpu, cuda, cuda:N, or balanced
    (layers over all GPUs); `quantisation` is none, 8bit or 4bit.
    """

    model: str
    revision: str | None = None
    draft_model: str | None = None
    name: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    quantisation: str = "none"
    compile: bool = False
    max_context_tokens: int = 8192
    default_answer_tokens: int = 1024
    max_waiting: int = 16
    num_threads: int = 0


def load_generator(spec: GeneratorSpec) -> TransformersGenerator:
    """A generator on the weights of `spec`.

    Raises:
        ConfigurationError: one line that names what is wrong with the folder or the device.
    """
    torch.set_num_threads(spec.num_threads or max(1, len(os.sched_getaffinity(0)) - 1))
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    model, tokenizer = _load(spec)
    max_context_tokens = min(spec.max_context_tokens, model.config.max_position_embeddings)
    writer = LlamaWriter(
        model=model,
        decode=decoder(tokenizer),
        terminators=terminators(model, tokenizer),
        draft=_load_draft(spec, tokenizer),
        static_cache_tokens=max_context_tokens if spec.compile else None,
    )
    # What its files say of sampling must not mix with what a request says.
    model.generation_config = GenerationConfig()
    generator = TransformersGenerator(
        writer,
        ChatPrompts(tokenizer),
        name=spec.name or spec.model,
        max_context_tokens=max_context_tokens,
        default_answer_tokens=spec.default_answer_tokens,
        max_waiting=spec.max_waiting,
    )
    _warm_up(generator, spec)
    return generator


def _warm_up(generator: TransformersGenerator, spec: GeneratorSpec) -> None:
    try:
        generator.warm_up()
    except GeneratorFailed as failure:
        cause = failure.__cause__
        raise ConfigurationError(
            f"model: '{spec.model}' cannot write: {_first_line(cause or failure)}"
        ) from failure


def _load(spec: GeneratorSpec) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    device = _device(spec.device)
    if spec.compile and device == "cpu":
        raise ConfigurationError("compile: it needs a GPU")
    if spec.compile and spec.draft_model:
        raise ConfigurationError("compile: a model that others draft for cannot be compiled")
    folder = _folder(spec)
    _check_folder(folder)
    return _load_model(folder, device, spec), _load_tokenizer(folder)


def _load_draft(spec: GeneratorSpec, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM | None:
    if spec.draft_model is None:
        return None
    draft, vocabulary = _load(replace(spec, model=spec.draft_model, draft_model=None))
    if vocabulary.get_vocab() != tokenizer.get_vocab():
        raise ConfigurationError("draft_model: it has another vocabulary than the model")
    return draft


def _folder(spec: GeneratorSpec) -> Path:
    """Where the files are; a hub model is downloaded first, at its pinned revision."""
    if Path(spec.model).is_dir():
        return Path(spec.model)
    if "/" not in spec.model or spec.revision is None:
        raise ConfigurationError(
            f"model: there is no folder '{spec.model}'; a hub id needs a pinned revision"
        )
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow, and for hub models only
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(
            snapshot_download(
                spec.model,
                revision=spec.revision,
                allow_patterns=["*.safetensors", "*.json", "*.jinja"],
                ignore_patterns=["original/*"],
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigurationError(
            f"model: cannot fetch '{spec.model}' at {spec.revision} ({type(error).__name__}); "
            "check the name, the revision, your access to gated models (HF_TOKEN) and the network"
        ) from error


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"model: there is no config.json in '{folder}'")
    if not any(folder.glob("*.safetensors")):
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        advice = "pickle weights are refused; convert them to" if pickles else "there is no"
        raise ConfigurationError(f"model: {advice} safetensors in '{folder}'")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type != "llama":
        raise ConfigurationError(
            f"model: '{folder}' is of type '{config.model_type}'; only 'llama' can be served"
        )


def _load_model(folder: Path, device: str, spec: GeneratorSpec) -> LlamaForCausalLM:
    placement = "balanced" if device == "balanced" else {"": device}
    dtype = _DTYPES.get(spec.dtype) or (torch.float32 if device == "cpu" else "auto")
    try:
        model = LlamaForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map=placement,
            quantization_config=_quantisation(spec.quantisation),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ConfigurationError(f"model: cannot load '{folder}': {_first_line(error)}") from error
    if any(parameter.device.type in {"meta", "disk"} for parameter in model.parameters()):
        raise ConfigurationError(f"model: '{folder}' does not fit the memory of the devices")
    return model.eval()


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted != "cpu" and not torch.cuda.is_available():
        raise ConfigurationError(f"device: '{wanted}' needs a GPU, and torch sees none")
    return wanted


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


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"model: cannot load the tokenizer in '{folder}': {_first_line(error)}"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigurationError(f"model: '{folder}' has no tokenizer.json")
    return tokenizer


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
