"""Load a model, its adapter and its vocabulary into an engine; refuse what cannot be trusted."""

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
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from guard_service.engine.answer import verdict_words
from guard_service.engine.fingerprint import fingerprint
from guard_service.engine.packing import ATTENTION, PackedSequence, forward
from guard_service.engine.transformers_engine import AnswerStyle, TransformersEngine
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import ConfigurationError, Message, ModelInfo, Role
from guard_service.observer import Observer
from guard_service.policy import default_policy
from guard_service.prompt_formats import PromptFormat
from guard_service.weights import ALLOWED_FILES

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_END_TOKENS = ("<|end_of_text|>", "<|eot_id|>", "</s>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Which weights to load, and how.

    `model` is a folder, or a hub id with its 40-digit `revision`. `name` is what verdicts call it,
    if not by `model`. `device` is auto, cpu, cuda, cuda:N, or balanced (layers over all GPUs).
    """

    model: str
    revision: str | None = None
    adapter: Path | None = None
    name: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    quantisation: str = "none"
    max_context_tokens: int = 8192
    prefix_cache_bytes: int = 2**28
    session_cache_bytes: int = 2**30
    num_threads: int = 0


def load_engine(
    spec: ModelSpec, prompt_format: PromptFormat, observer: Observer
) -> TransformersEngine:
    """An engine on the weights of `spec`.

    Raises:
        ConfigurationError: one line that names what is wrong with the folder, adapter or device.
    """
    torch.set_num_threads(spec.num_threads or max(1, len(os.sched_getaffinity(0)) - 1))
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    folder = _folder(spec)
    _check_folder(folder)
    model = _load_model(folder, spec)
    if spec.adapter is not None:
        model = _with_adapter(model, spec.adapter, merge=spec.quantisation == "none")
    tokenizer = _load_tokenizer(folder)
    vocabulary = Vocabulary.from_pretrained_tokenizer(tokenizer)
    vocabulary.verify(prompt_format, default_policy(prompt_format.name))
    spaced = _answers_with_space(model, vocabulary, prompt_format)
    return TransformersEngine(
        model,
        vocabulary,
        ModelInfo(spec.name or spec.model, _revision(spec, folder), prompt_format.name),
        style=AnswerStyle(
            words=verdict_words(vocabulary.encode_text, spaced=spaced),
            code_letter=prompt_format.code_letter,
            spaced=spaced,
            terminators=_terminators(model, tokenizer),
        ),
        max_context_tokens=min(spec.max_context_tokens, model.config.max_position_embeddings),
        prefix_cache_bytes=spec.prefix_cache_bytes,
        session_cache_bytes=spec.session_cache_bytes,
        observer=observer,
    )


def _folder(spec: ModelSpec) -> Path:
    """Where the files are; a hub model is downloaded first, at its pinned revision."""
    if Path(spec.model).is_dir():
        return Path(spec.model)
    if "/" not in spec.model or spec.revision is None:
        raise ConfigurationError(
            f"model: there is no folder '{spec.model}'; a hub id needs a pinned revision"
        )
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow, and for hub models only

    try:
        # Its errors are also those of whatever HTTP library it is built on.
        return Path(
            snapshot_download(
                spec.model,
                revision=spec.revision,
                allow_patterns=list(ALLOWED_FILES),
            )
        )
    except Exception as error:
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
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"model: cannot read config.json in '{folder}': {_first_line(error)}"
        ) from error
    if config.model_type != "llama":
        raise ConfigurationError(
            f"model: '{folder}' is of type '{config.model_type}'; only 'llama' can be served"
        )


def _load_model(folder: Path, spec: ModelSpec) -> LlamaForCausalLM:
    device = _device(spec.device)
    placement = "balanced" if device == "balanced" else {"": device}
    dtype = _DTYPES.get(spec.dtype) or (torch.float32 if device == "cpu" else "auto")
    try:
        model, report = LlamaForCausalLM.from_pretrained(
            folder,
            output_loading_info=True,
            dtype=dtype,
            device_map=placement,
            quantization_config=_quantisation(spec.quantisation),
            attn_implementation=ATTENTION,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ConfigurationError(f"model: cannot load '{folder}': {_first_line(error)}") from error
    # What is missing would be made up of random numbers, and what is too much left out.
    if wrong := sorted({*report["missing_keys"], *report["unexpected_keys"]}):
        raise ConfigurationError(
            f"model: the weights in '{folder}' are not those of its config.json; missing or too "
            f"many: {wrong[0]} ({len(wrong)} tensors in all)"
        )
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise ConfigurationError(f"model: '{folder}' does not fit the memory of the devices")
    return cast("LlamaForCausalLM", model.eval())


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


def _with_adapter(model: LlamaForCausalLM, adapter: Path, *, merge: bool) -> LlamaForCausalLM:
    """The model with a PEFT adapter, merged where the weights are plain numbers."""
    from peft import PeftModel  # noqa: PLC0415 - slow to import, and only adapters need it

    if not (adapter / "adapter_model.safetensors").is_file():
        raise ConfigurationError(f"adapter: there is no adapter_model.safetensors in '{adapter}'")
    try:
        with warnings.catch_warnings():
            # peft asks transformers for something by its former name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, adapter, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, UserWarning) as error:
        raise ConfigurationError(
            f"adapter: '{adapter}' does not fit this model: {_first_line(error)}"
        ) from error
    whole: Any = adapted.merge_and_unload() if merge else adapted.get_base_model()
    return cast("LlamaForCausalLM", whole.eval())


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


def _terminators(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Every token that ends an answer, by any of the files that name one."""
    generation: GenerationConfig = model.generation_config
    ids: set[int] = set()
    for named in (generation.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        ids.update(named if isinstance(named, list) else [] if named is None else [named])
    vocabulary = tokenizer.get_vocab()
    ids.update(vocabulary[token] for token in _END_TOKENS if token in vocabulary)
    if not ids:
        raise ConfigurationError("model: no file names the token that ends an answer")
    return tuple(sorted(ids))


@torch.inference_mode()
def _answers_with_space(
    model: LlamaForCausalLM, vocabulary: Vocabulary, prompt_format: PromptFormat
) -> bool:
    """Ask the model once whether it writes ` safe` or `safe`; a split word is never spaced."""
    plain, spaced = (
        [vocabulary.encode_text(f"{lead}{word}") for word in ("safe", "unsafe")]
        for lead in ("", " ")
    )
    if any(len(tokens) != 1 for tokens in (*plain, *spaced)):
        return False
    greeting = (Message(Role.USER, "Hello"),)
    prompt = prompt_format.render(greeting, default_policy(prompt_format.name))
    segments = vocabulary.encode(prompt)
    tokens = (*segments.prefix, *segments.body, *segments.suffix)
    [output] = forward(model, [PackedSequence(tokens)])
    logits = model.lm_head(output.hidden[-1]).float()
    masses = [logits[[ids for [ids] in words]].logsumexp(0) for words in (spaced, plain)]
    return bool(masses[0] > masses[1])


def _revision(spec: ModelSpec, folder: Path) -> str:
    base = spec.revision or fingerprint(folder)
    return base if spec.adapter is None else f"{base}+{fingerprint(spec.adapter)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
