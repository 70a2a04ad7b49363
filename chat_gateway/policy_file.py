"""The YAML file of gateway policies, checked so strictly that a typing error cannot widen one."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.moderation import ConfigurationError, Phase

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
        file = PolicyFile.model_validate(yaml.load(_read(path), Loader=_UniqueKeyLoader))  # noqa: S506
        policies = [entry.policy() for entry in file.policies]
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {_yaml_problem(error)}") from error
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


class _UniqueKeyLoader(yaml.SafeLoader):
    """Plain YAML lets the last of two equal keys win; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                problem=f"field given twice: {min(repeated)}", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def _yaml_problem(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "unreadable characters"
    return f"line {error.problem_mark.line + 1}: {error.problem}"


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{_place(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False)
    )


def _place(steps: tuple[int | str, ...]) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return place.removeprefix(".") or "the file"
