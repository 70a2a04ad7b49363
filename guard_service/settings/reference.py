"""What a user reads about a setting: flag, variable, default, allowed values, meaning."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guard_service.settings.model import ENV_PREFIX, ModelSettings


@dataclass(frozen=True, slots=True)
class SettingReference:
    """One line of the settings' documentation."""

    name: str
    default: str
    allowed: str
    description: str

    @property
    def flag(self) -> str:
        """Such as `--max-batch-tokens`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Such as `GUARD_MAX_BATCH_TOKENS`."""
        return ENV_PREFIX + self.name.upper()


def references(kind: type[ModelSettings]) -> Iterator[SettingReference]:
    """One reference per setting of `kind`, in the order they are declared."""
    properties = kind.model_json_schema()["properties"]
    for name in kind.model_fields:
        schema = properties[name]
        yield SettingReference(name, _default(schema), _allowed(schema), schema["description"])


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    if default is None or default == []:
        return "-"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _allowed(schema: dict[str, Any]) -> str:
    options = (schema, *schema.get("anyOf", ()))
    return next((words for option in options if (words := _allowed_by(option))), "text")


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
