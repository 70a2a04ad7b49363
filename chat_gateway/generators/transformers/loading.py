"""Load a chat model and its vocabulary into a generator; refuse what cannot be trusted."""

from dataclasses import dataclass, replace

from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from chat_gateway.chat import GeneratorFailed
from chat_gateway.generators.transformers.chat_prompt import ChatPrompts
from chat_gateway.generators.transformers.generator import TransformersGenerator
from chat_gateway.generators.transformers.vocabulary import decoder, terminators
from chat_gateway.generators.transformers.writing import LlamaWriter
from guard_service.moderation import ConfigurationError
from guard_service.pretrained import (
    Placement,
    first_line,
    load_llama,
    load_tokenizer,
    model_folder,
    set_up_torch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSpec:
    """Which weights to load, and how.

    `model` is a folder, or a hub id with its 40-digit `revision`; `draft_model` is a folder. `name`
    is what requests call it, if not by `model`. `dtype`, `device` and `quantisation` are those of
    a `Placement`.
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

    @property
    def placement(self) -> Placement:
        """In what numbers the weights are kept, and where."""
        return Placement(dtype=self.dtype, device=self.device, quantisation=self.quantisation)


def load_generator(spec: GeneratorSpec) -> TransformersGenerator:
    """A generator on the weights of `spec`.

    Raises:
        ConfigurationError: one line that names what is wrong with the folder or the device.
    """
    set_up_torch(spec.num_threads)
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
            f"model: '{spec.model}' cannot write: {first_line(cause or failure)}"
        ) from failure


def _load(spec: GeneratorSpec) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    if spec.compile and spec.placement.resolved_device() == "cpu":
        raise ConfigurationError("compile: it needs a GPU")
    if spec.compile and spec.draft_model:
        raise ConfigurationError("compile: a model that others draft for cannot be compiled")
    folder = model_folder(spec.model, spec.revision, more_files=("*.jinja",))
    return load_llama(folder, spec.placement), load_tokenizer(folder)


def _load_draft(spec: GeneratorSpec, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM | None:
    if spec.draft_model is None:
        return None
    draft, vocabulary = _load(replace(spec, model=spec.draft_model, draft_model=None))
    if vocabulary.get_vocab() != tokenizer.get_vocab():
        raise ConfigurationError("draft_model: it has another vocabulary than the model")
    return draft
