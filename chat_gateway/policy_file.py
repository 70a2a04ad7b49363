"""The YAML file of gateway policies, checked so strictly that a typing error cannot widen one."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.moderation import ConfigurationError, Phase
from guard_service.strict_yaml import load_yaml

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_STRICT = ConfigDict(extra="forbid", frozen=True)


class CheckpointsEntry(BaseModel):
    """`checkpoints:` of a policy; what is left out has its default."""

    model_config = _STRICT

    first_characters: int | None = None
    every_characters: int | None = None
    max_every_characters: int | None = None
    every_seconds: float | None = None


class PolicyEntry(BaseModel):
    """One policy of the list; what is left out has its default."""

    model_config = _STRICT

    id: Identifier
    guard_policy_id: Identifier | None = None
    mode: Mode | None = None
    parallel_prompt_check: bool | None = None
    judge_earlier_turns: bool | None = None
    fail_open: frozenset[Phase] | None = None
    refusal: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    error_on_blocked_prompt: bool | None = None
    checkpoints: CheckpointsEntry | None = None
    hold_from: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_hold_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    max_hold_characters: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    release_after_hold: bool | None = None

    def policy(self) -> GatewayPolicy:
        """The policy as the pipeline knows it; raises `ConfigurationError`."""
        given = {name: value for name, value in self if value is not None}
        if self.checkpoints is not None:
            given["checkpoints"] = Checkpoints(
                **{name: value for name, value in self.checkpoints if value is not None}
            )
        return GatewayPolicy(**given)


class PolicyFile(BaseModel):
    """The whole file: `policies:` and a list."""

    model_config = _STRICT

    policies: Annotated[tuple[PolicyEntry, ...], Field(min_length=1, max_length=100)]


def load_policies(path: Path) -> dict[str, GatewayPolicy]:
    """The policies of the file by id, in its order.

    Raises:
        ConfigurationError: one line that names the file, the field and what is allowed.
    """
    try:
        file = PolicyFile.model_validate(load_yaml(_read(path)))
        policies = [entry.policy() for entry in file.policies]
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_problems(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    ids = [policy.id for policy in policies]
    if repeated := sorted({each for each in ids if ids.count(each) > 1}):
        raise ConfigurationError(f"{path}: each id may appear once; repeated: {repeated[0]}")
    return dict(zip(ids, policies, strict=True))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}") from error


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{_place(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False)
    )


def _place(steps: tuple[int | str, ...]) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return place.removeprefix(".") or "the file"
