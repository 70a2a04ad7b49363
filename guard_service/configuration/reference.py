"""What a user reads about a setting: flag, variable, default, allowed values, meaning."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from guard_service.configuration.sources import LayeredSettings

_HEAD = "| flag | variable | default | allowed | meaning |\n|---|---|---|---|---|\n"


@dataclass(frozen=True, slots=True)
class SettingReference:
    """One line of the settings' documentation."""

    name: str
    variable: str
    default: str
    allowed: str
    description: str
    is_secret: bool

    @property
    def flag(self) -> str:
        """Such as `--max-messages`. A secret has none: command lines can be read by others."""
        return "--" + self.name.replace("_", "-")


def references(kind: type[LayeredSettings]) -> Iterator[SettingReference]:
    """One reference per setting of `kind`, in the order they are declared."""
    properties = kind.model_json_schema()["properties"]
    prefix = kind.model_config.get("env_prefix", "")
    for name in kind.model_fields:
        schema = properties[name]
        yield SettingReference(
            name=name,
            variable=prefix + name.upper(),
            default=_default(schema),
            allowed=_allowed(schema),
            description=schema["description"],
            is_secret=any(option.get("writeOnly") for option in _options(schema)),
        )


def with_fresh_table(page: str, settings: Iterable[SettingReference]) -> str:
    """The page with its table of settings as it should be."""
    above, _, rest = page.partition(_HEAD)
    _, gap, below = rest.partition("\n\n")
    return above + _HEAD + "\n".join(map(_row, settings)) + gap + below


def _row(each: SettingReference) -> str:
    flag = "-" if each.is_secret else f"`{each.flag}`"
    return f"| {flag} | `{each.variable}` | {each.default} | {each.allowed} | {each.description} |"


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    if default is None or default == []:
        return "-"
    if isinstance(default, list):
        return ", ".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _allowed(schema: dict[str, Any]) -> str:
    return next((words for option in _options(schema) if (words := _allowed_by(option))), "text")


def _options(schema: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return (schema, *schema.get("anyOf", ()))


def _allowed_by(option: dict[str, Any]) -> str | None:
    match option:
        case {"allowed": str(words)}:
            return words
        case {"enum": list(values)}:
            return ", ".join(values)
        case {"minimum": low, "maximum": high}:
            return f"{low}..{high}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f"above {low}, up to {high}"
        case {"format": "path"}:
            return "a path"
    return None
