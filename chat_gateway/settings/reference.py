"""What a user reads about a setting: flag, variable, default, allowed values, meaning."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chat_gateway.settings.gateway import GatewaySettings
from chat_gateway.settings.generator import ENV_PREFIX, GeneratorSettings


@dataclass(frozen=True, slots=True)
class SettingReference:
    """One line of the settings' documentation."""

    name: str
    default: str
    allowed: str
    description: str
    is_secret: bool

    @property
    def flag(self) -> str:
        """Such as `--max-messages`. A secret has none: command lines can be read by others."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Such as `GATEWAY_MAX_MESSAGES`."""
        return ENV_PREFIX + self.name.upper()

    @property
    def is_of_the_generator(self) -> bool:
        """Whether it says which model answers, rather than how the gateway serves it."""
        return self.name in GeneratorSettings.model_fields


def references() -> Iterator[SettingReference]:
    """One reference per setting, in the order they are declared."""
    properties = GatewaySettings.model_json_schema()["properties"]
    for name in GatewaySettings.model_fields:
        schema = properties[name]
        yield SettingReference(
            name, _default(schema), _allowed(schema), schema["description"], _is_secret(schema)
        )


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


def _is_secret(schema: dict[str, Any]) -> bool:
    return any(option.get("writeOnly") for option in (schema, *schema.get("anyOf", ())))
