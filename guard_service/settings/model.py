"""Settings of the model: which one judges, by which policies, and on what."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from guard_service.configuration.sources import LayeredSettings
from guard_service.embedded import PROMPT_FORMAT as EMBEDDED_FORMAT
from guard_service.policy_file import FormatName
from guard_service.weights import adapter_format

ENV_PREFIX = "GUARD_"
USUAL_FORMAT: FormatName = "llama-guard-2"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def _split_commas(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _default_format(given: dict[str, Any]) -> str:
    if given.get("model") is None:
        return EMBEDDED_FORMAT
    adapter = given.get("adapter")
    return (adapter and adapter_format(adapter)) or USUAL_FORMAT


class ModelSettings(LayeredSettings):
    """Which model judges, by which policies, and on what."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX)

    model: str | None = Field(
        None,
        description="Folder or hub id of the model; without it, the embedded demonstration model.",
    )
    revision: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{40}$",
        description="Commit of a hub model; needed with a hub id.",
        json_schema_extra={"allowed": "40 hexadecimal digits"},
    )
    adapter: Path | None = Field(None, description="Folder of a PEFT adapter to put on the model.")
    format: FormatName = Field(
        default_factory=_default_format,
        validate_default=True,
        description="Prompt format the model expects; without it, the one its adapter was tuned "
        f"for, else {USUAL_FORMAT}, or the embedded model's own.",
    )
    policies: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_commas)] = Field(
        (),
        description="YAML files of policies to offer beside the format's own.",
        json_schema_extra={"allowed": "paths, comma-separated"},
    )
    default_policy: str | None = Field(
        None,
        description="Id of the policy used when a request names none; without it, the format's.",
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
    max_context_tokens: int = Field(
        8192,
        ge=512,
        le=131_072,
        description="Longest prompt, in tokens; the model's own limit if that is lower "
        "(2048 for the embedded model). Longer text is windowed.",
    )
    prefix_cache_bytes: int = Field(
        2**28,
        ge=0,
        le=2**40,
        description="Memory for the keys and values of policy prompts, in bytes.",
    )
    session_cache_bytes: int = Field(
        2**30,
        ge=0,
        le=2**40,
        description="Memory for the keys and values of open streams, in bytes.",
    )
    num_threads: int = Field(
        0, ge=0, le=1024, description="CPU threads of the model; 0 is the number of cores less one."
    )
    cache_dir: Path = Field(
        default_factory=lambda: user_cache_path("guard-service"),
        description="Folder that keeps the embedded model; without it, one in the user's cache.",
    )

    @property
    def is_hub_model(self) -> bool:
        """Whether `model` is a hub id rather than a folder."""
        return bool(self.model and _HUB_ID.fullmatch(self.model) and not Path(self.model).is_dir())

    @model_validator(mode="after")
    def _pin_hub_models(self) -> Self:
        if self.is_hub_model and not self.revision:
            raise ValueError(
                f"GUARD_REVISION is missing: there is no folder '{self.model}', and a hub model "
                "needs the commit to load, 40 hexadecimal digits"
            )
        if self.model and not self.is_hub_model and not Path(self.model).is_dir():
            raise ValueError(f"GUARD_MODEL: there is no folder '{self.model}'")
        return self

    @model_validator(mode="after")
    def _embedded_model_is_complete(self) -> Self:
        if self.model is None and (self.adapter or self.revision):
            raise ValueError(
                "GUARD_ADAPTER and GUARD_REVISION need GUARD_MODEL: the embedded model has its own"
            )
        if self.model is None and self.format != EMBEDDED_FORMAT:
            raise ValueError(f"GUARD_FORMAT: the embedded model speaks {EMBEDDED_FORMAT} only")
        return self

    @model_validator(mode="after")
    def _adapter_speaks_the_format(self) -> Self:
        tuned_for = adapter_format(self.adapter) if self.adapter else None
        if tuned_for not in {None, self.format}:
            raise ValueError(
                f"GUARD_FORMAT: the adapter in '{self.adapter}' was tuned for {tuned_for}, "
                f"not for {self.format}; leave the format out"
            )
        return self
