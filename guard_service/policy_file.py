"""The YAML shape of a policy, checked so strictly that a typing error cannot widen it."""

import unicodedata
from collections.abc import Hashable
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

from guard_service.moderation import ConfigurationError
from guard_service.neutralise import neutralise

MAX_CATEGORIES = 64
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError("must be one line")
    return text


def _printable(text: str) -> str:
    if any(unicodedata.category(each) in _UNPRINTABLE and each != "\n" for each in text):
        raise ValueError("must not contain tabs or other control characters")
    return text


def _no_marker(text: str) -> str:
    if neutralise(text) != text:
        raise ValueError("must not contain prompt markers such as <END CONVERSATION> or User:")
    return text


Code = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_one_line),
    AfterValidator(_printable),
    AfterValidator(_no_marker),
]
Description = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=4000),
    AfterValidator(_printable),
    AfterValidator(_no_marker),
]
Threshold = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
FormatName = Literal["llama-guard-1", "llama-guard-2", "llama-guard-3", "llama-guard-3-1b"]


class CategoryEntry(BaseModel):
    """One category; what is left out is taken from the format's own category of that code."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    code: Code
    name: Name | None = None
    description: Description | None = None
    threshold: Threshold | None = None


class PolicyFile(BaseModel):
    """A policy as it is written down. `- S1` is short for `- {code: S1}`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Identifier
    version: Identifier
    format: FormatName
    descriptions_in_prompt: bool = False
    threshold: Threshold = 0.5
    categories: Annotated[list[CategoryEntry], Field(min_length=1, max_length=MAX_CATEGORIES)]

    @field_validator("categories", mode="before")
    @classmethod
    def _expand_codes(cls, entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return [{"code": entry} if isinstance(entry, str) else entry for entry in entries]

    @field_validator("categories")
    @classmethod
    def _refuse_duplicates(cls, entries: list[CategoryEntry]) -> list[CategoryEntry]:
        codes = [entry.code for entry in entries]
        if repeated := sorted({code for code in codes if codes.count(code) > 1}):
            raise ValueError(f"each code may appear once; repeated: {', '.join(repeated)}")
        return entries


def parse_policy_file(text: str, source: str) -> PolicyFile:
    """The file behind `text`; `source` is what errors call it.

    Raises:
        ConfigurationError: one line that names the file, the field and what is allowed.
    """
    try:
        return PolicyFile.model_validate(yaml.load(text, Loader=_UniqueKeyLoader))  # noqa: S506
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source}: not valid YAML: {_yaml_problem(error)}") from error
    except ValidationError as error:
        problems = "; ".join(_problem(detail) for detail in error.errors())
        raise ConfigurationError(f"{source}: {problems}") from error
    except ValueError as error:  # of a value that only looks like a date or a number
        raise ConfigurationError(
            f"{source}: not valid YAML: {error}; put text that looks like a date in quotes"
        ) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Plain YAML lets the last of two equal keys win; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
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


def _problem(detail: ErrorDetails) -> str:
    """One validation error as `categories[2].threshold: Input should be …`."""
    place = ""
    for step in detail["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    match detail["type"]:
        case "extra_forbidden":
            owner = PolicyFile if len(detail["loc"]) == 1 else CategoryEntry
            problem = f"unknown field; allowed: {', '.join(owner.model_fields)}"
        case "string_type":
            problem = "must be text; put numbers and words such as yes or no in quotes"
        case _:
            problem = detail["msg"].removeprefix("Value error, ")
    return f"{place.removeprefix('.') or 'the file'}: {problem}"
