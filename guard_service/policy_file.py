"""The YAML shape of a policy, checked so strictly that a typing error cannot widen it."""

import unicodedata
from typing import Annotated, Any, Literal

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
from guard_service.strict_yaml import load_yaml

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
FormatName = Literal[
    "llama-guard-1", "llama-guard-2", "llama-guard-3", "llama-guard-3-1b", "compact"
]


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
        return PolicyFile.model_validate(load_yaml(text))
    except ValidationError as error:
        problems = "; ".join(_problem(detail) for detail in error.errors())
        raise ConfigurationError(f"{source}: {problems}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from error


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
