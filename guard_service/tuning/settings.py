"""Settings of a fine-tuning run: which base model, which rows, how long, how fast."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from guard_service.configuration.loading import SettingsReader
from guard_service.configuration.sources import LayeredSettings
from guard_service.moderation import ConfigurationError
from guard_service.policy import Policy, default_policy, hazards_of, load_policy
from guard_service.policy_file import FormatName
from guard_service.weights import adapter_format

EMBEDDED_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What the embedded model is called on the hub."""


_FREE_TO_CHANGE = {
    *("config", "output", "dev", "held_out", "cache_dir", "device", "num_threads"),
    *("epochs", "steps", "stop_at", "minutes", "evaluate_every", "checkpoint_minutes"),
}
"""Settings that change nothing of what was learnt before a checkpoint; rows have a digest."""


def _split_commas(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_commas)]


class TuneSettings(LayeredSettings):
    """How a LoRA adapter is trained."""

    model_config = SettingsConfigDict(env_prefix="GUARD_TUNE_")

    output: Path = Field(
        Path("tuned"), description="Folder for the adapter, checkpoints, log and model card."
    )
    dev: Paths = Field(
        (),
        description="Labelled rows to choose the best checkpoint by; never those of a final test.",
        json_schema_extra={"allowed": "paths, comma-separated"},
    )
    held_out: Paths = Field(
        (),
        description="Rows of final tests: a training text that equals one of theirs is an error.",
        json_schema_extra={"allowed": "paths, comma-separated"},
    )
    model: str | None = Field(
        None, description="Folder or hub id of the base model; without it, the embedded one."
    )
    revision: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{40}$",
        description="Commit of a hub model; needed with a hub id.",
        json_schema_extra={"allowed": "40 hexadecimal digits"},
    )
    adapter: Path | None = Field(
        None, description="Folder of an adapter to go on from; its rank and layers are kept."
    )
    format: FormatName = Field("compact", description="Prompt format to teach.")
    policy: Path | None = Field(
        None, description="YAML file of the policy to teach; without it, the format's own."
    )
    policy_variants: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of rows asked under a policy whose categories are shuffled, left out, "
        "reworded or described, so that the guard reads the policy it is given.",
    )
    epochs: int = Field(2, ge=1, le=1000, description="How often each row is seen.")
    steps: int | None = Field(
        None,
        ge=1,
        le=10**7,
        description="Length of the run in steps, however many epochs that is; without it, epochs.",
    )
    stop_at: int | None = Field(
        None,
        ge=1,
        le=10**7,
        description="Step to stop at, leaving a checkpoint; --resume goes on from there.",
    )
    minutes: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="Longest time to train, resumed runs counted together; the learning rate "
        "falls to its end within it.",
    )
    step_tokens: int = Field(
        2688,
        ge=256,
        le=10**6,
        description="Padded tokens a forward takes beside the policy prompt, which is shared.",
    )
    accumulate: int = Field(
        1, ge=1, le=1024, description="Forwards whose gradients make one step of the optimiser."
    )
    max_tokens: int = Field(
        1920, ge=64, le=131_072, description="Longest row in tokens; longer ones are left out."
    )
    rank: int = Field(16, ge=1, le=256, description="Rank of the LoRA matrices.")
    learning_rate: float = Field(
        4e-4, gt=0, le=1, description="Highest learning rate, reached after the warm-up."
    )
    warm_up_steps: int = Field(30, ge=1, le=10**6, description="Steps of the warm-up.")
    verdict_weight: float = Field(
        3.0, gt=0, le=100, description="Weight of the verdict's first token against the others."
    )
    quantisation: Literal["none", "8bit", "4bit"] = Field(
        "none", description="Load the base in 8 or 4 bits (QLoRA; extra 'quantised', a GPU)."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic: auto is bfloat16 on a GPU or a CPU with the units for it.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where to train.",
        json_schema_extra={"allowed": "auto, cpu, cuda, cuda:N"},
    )
    num_threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 is the number of cores.")
    evaluate_every: int = Field(
        200, ge=1, le=10**6, description="Steps between two looks at the dev rows."
    )
    checkpoint_minutes: float = Field(
        10.0, gt=0, le=1440, description="Longest time between two checkpoints."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of order, variants and weights.")
    cache_dir: Path = Field(
        default_factory=lambda: user_cache_path("guard-service"),
        description="Folder that keeps the embedded model; without it, one in the user's cache.",
    )

    @model_validator(mode="after")
    def _goes_on_in_the_adapters_format(self) -> Self:
        spoken = adapter_format(self.adapter) if self.adapter else None
        if spoken not in {None, self.format}:
            raise ValueError(
                f"--format: the adapter in '{self.adapter}' speaks {spoken}, not {self.format}; "
                f"say --format {spoken}"
            )
        return self

    def kept_on_resume(self) -> dict[str, Any]:
        """What a run that is resumed has to share with its beginning; of the policy the digest.

        Raises:
            ConfigurationError: the policy cannot be used.
        """
        kept = self.model_dump(mode="json", exclude=_FREE_TO_CHANGE)
        return {**kept, "policy": self.taught_policy().digest}

    def taught_policy(self) -> Policy:
        """The policy of the file, or the format's own.

        Raises:
            ConfigurationError: the file cannot be used, or is for another format.
        """
        if self.policy is None:
            return default_policy(self.format)
        policy = load_policy(self.policy)
        if hazards_of(policy.prompt_format) != hazards_of(self.format):
            raise ConfigurationError(
                f"{self.policy}: is written for {policy.prompt_format}, taught is {self.format}"
            )
        return policy


load = SettingsReader(TuneSettings, command="guard-service tune").read
