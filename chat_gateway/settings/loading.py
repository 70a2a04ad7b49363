"""Read settings, and turn every mistake in them into one line that says what is allowed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from chat_gateway.settings.gateway import GatewaySettings
from chat_gateway.settings.generator import ENV_PREFIX
from chat_gateway.settings.reference import references
from guard_service.moderation import ConfigurationError

_KNOWN = {each.name: each for each in references()}


def load(flags: Mapping[str, Any] | None = None) -> GatewaySettings:
    """The settings; `flags` are values given on the command line, by setting name.

    Raises:
        ConfigurationError: a value is not allowed, a name is unknown, or the file is unreadable.
    """
    given = dict(flags or {})
    _refuse_unknown_variables()
    config = given.get("config") or os.environ.get(ENV_PREFIX + "CONFIG")
    in_file = _names_in(Path(str(config))) if config else set()
    try:
        return GatewaySettings(**given)
    except ValidationError as error:
        raise ConfigurationError(_one_line(error, given, in_file)) from None


def _refuse_unknown_variables() -> None:
    for variable in os.environ:
        name = variable.upper()
        if name.startswith(ENV_PREFIX) and name.removeprefix(ENV_PREFIX).lower() not in _KNOWN:
            raise ConfigurationError(
                f"{variable}: there is no such setting; see 'chat-gateway serve --help'"
            )


def _names_in(config: Path) -> set[str]:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the settings file {config}: {error}") from error
    except yaml.YAMLError as error:
        # The error itself quotes the line, and that may hold a key.
        raise ConfigurationError(f"{config} is not valid YAML{_place(error)}") from None
    if not isinstance(content, dict | None):
        raise ConfigurationError(f"{config} must hold settings as 'name: value' lines")
    names = {str(name) for name in content or {}}
    for name in sorted(names):
        if name not in _KNOWN or name == "config":
            raise ConfigurationError(f"{name} in {config}: there is no such setting")
    return names


def _place(error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f": line {mark.line + 1}" if mark else ""


def _one_line(error: ValidationError, given: Mapping[str, Any], in_file: set[str]) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    setting = _KNOWN[str(first["loc"][0])]
    if setting.name in given:
        name = setting.flag
    elif setting.variable in {variable.upper() for variable in os.environ}:
        name = setting.variable
    else:
        name = f"{setting.name} in the settings file" if setting.name in in_file else setting.name
    value = "this value" if setting.is_secret else f"'{first['input']}'"
    return f"{name}: {value} is not allowed; allowed: {setting.allowed}"
