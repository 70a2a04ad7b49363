"""Settings of the generator: which model answers, and where it runs."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from guard_service.configuration.sources import LayeredSettings

ENV_PREFIX = "GATEWAY_"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_UPSTREAM = (
    "upstream_url",
    "upstream_api_key",
    "upstream_models",
    "upstream_ca_file",
    "upstream_connect_seconds",
    "upstream_first_byte_seconds",
    "upstream_between_chunks_seconds",
)
_OWN_MODEL = ("model", "revision", "draft_model", "model_name")
_IN_PROCESS = (
    "dtype",
    "device",
    "quantisation",
    "compile",
    "max_context_tokens",
    "default_answer_tokens",
    "num_threads",
    "max_waiting",
)


def split_commas(value: object) -> object:
    """The parts of a comma-separated text; anything else as it is."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


class GeneratorSettings(LayeredSettings):
    """Which model answers, and where it runs."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX)

    generator: Literal["embedded", "openai", "transformers"] = Field(
        "embedded",
        description="What answers: the embedded demonstration model, an OpenAI-compatible server, "
        "or a model in this process.",
    )
    upstream_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="Base URL of the OpenAI-compatible server, such as http://localhost:8000/v1.",
        json_schema_extra={"allowed": "an http or https URL"},
    )
    upstream_api_key: SecretStr | None = Field(
        None,
        description="Key sent to that server; never logged.",
        json_schema_extra={"allowed": "text, not as a flag"},
    )
    upstream_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)] = Field(
        (),
        description="Models of that server that may be asked for; the first is the default.",
        json_schema_extra={"allowed": "names, comma-separated"},
    )
    upstream_ca_file: Path | None = Field(
        None,
        description="PEM file of the authorities that server's certificate is checked against; "
        "without it, the system's.",
    )
    upstream_connect_seconds: float = Field(
        5.0, gt=0, le=600, description="Longest wait for a connection to that server."
    )
    upstream_first_byte_seconds: float = Field(
        60.0, gt=0, le=3600, description="Longest wait for the beginning of its answer."
    )
    upstream_between_chunks_seconds: float = Field(
        30.0, gt=0, le=3600, description="Longest wait for the next piece of its answer."
    )
    model: str | None = Field(
        None, description="Folder or hub id of the model in this process, a Llama 3 Instruct model."
    )
    revision: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{40}$",
        description="Commit of a hub model; needed with a hub id.",
        json_schema_extra={"allowed": "40 hexadecimal digits"},
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number type of the weights; auto is float32 on a CPU, else the model's own.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|balanced)$",
        description="Where the model runs; balanced spreads its layers over all GPUs.",
        json_schema_extra={"allowed": "auto, cpu, cuda, cuda:N, balanced"},
    )
    quantisation: Literal["none", "8bit", "4bit"] = Field(
        "none", description="Load the weights in 8 or 4 bits (extra 'quantised', needs a GPU)."
    )
    compile: bool = Field(
        default=False,
        description="Compile the model at start: slower to start, faster to answer.",
        json_schema_extra={"allowed": "true, false"},
    )
    draft_model: str | None = Field(
        None, description="Folder of a small model of the same vocabulary that drafts ahead."
    )
    model_name: str | None = Field(
        None, description="What requests call the model in this process; without it, its id."
    )
    max_context_tokens: int = Field(
        8192,
        ge=128,
        le=131_072,
        description="Longest prompt and answer together in this process, in tokens; the model's "
        "own limit if that is lower.",
    )
    default_answer_tokens: int = Field(
        1024,
        ge=1,
        le=131_072,
        description="Longest answer in this process where a request asks for no length, in tokens.",
    )
    num_threads: int = Field(
        0, ge=0, le=1024, description="CPU threads of the model; 0 is the number of cores less one."
    )
    max_waiting: int = Field(
        16, ge=0, le=100_000, description="Answers that may wait for the model in this process."
    )
    cache_dir: Path = Field(
        default_factory=lambda: user_cache_path("guard-service"),
        description="Folder that keeps the embedded model; without it, the one the guard uses.",
    )

    @model_validator(mode="after")
    def _one_generator(self) -> Self:
        """A setting of another generator is a mistake, not something to ignore."""
        foreign = {
            "embedded": (*_UPSTREAM, *_OWN_MODEL),
            "openai": (*_OWN_MODEL, *_IN_PROCESS),
            "transformers": _UPSTREAM,
        }[self.generator]
        for name in foreign:
            if name in self.model_fields_set:
                raise ValueError(
                    f"{ENV_PREFIX}{name.upper()}: the generator '{self.generator}' has no such "
                    f"setting; {ENV_PREFIX}GENERATOR chooses another"
                )
        return self

    @model_validator(mode="after")
    def _upstream_is_named(self) -> Self:
        if self.generator == "openai" and not self.upstream_url:
            raise ValueError("GATEWAY_UPSTREAM_URL is missing: the generator 'openai' needs it")
        if self.generator == "openai" and not self.upstream_models:
            raise ValueError(
                "GATEWAY_UPSTREAM_MODELS is missing: name the models that may be asked for"
            )
        return self

    @model_validator(mode="after")
    def _model_is_pinned(self) -> Self:
        if self.generator != "transformers":
            return self
        if not self.model:
            raise ValueError("GATEWAY_MODEL is missing: the generator 'transformers' needs it")
        if Path(self.model).is_dir():
            return self
        if not _HUB_ID.fullmatch(self.model):
            raise ValueError(f"GATEWAY_MODEL: there is no folder '{self.model}'")
        if not self.revision:
            raise ValueError(
                f"GATEWAY_REVISION is missing: there is no folder '{self.model}', and a hub model "
                "needs the commit to load, 40 hexadecimal digits"
            )
        return self
