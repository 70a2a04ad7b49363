"""Read settings, and turn every mistake in them into one line that says what is allowed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from guard_service.moderation import ConfigurationError
from guard_service.settings.model import ENV_PREFIX, ModelSettings
from guard_service.settings.reference import references
from guard_service.settings.serve import ServeSettings

S = TypeVar("S", bound=ModelSettings)
_KNOWN = {each.name: each for each in references(ServeSettings)}


def load(kind: type[S], flags: Mapping[str, Any] | None = None) -> S:
    """Settings of `kind`; `flags` are values given on the command line, by setting name.

    Every command accepts the variables and the file of the server, and reads what it needs.

    Raises:
        ConfigurationError: a value is not allowed, a name is unknown, or the file is unreadable.
    """
    given = dict(flags or {})
    _refuse_unknown_variables()
    config = given.get("config") or os.environ.get(ENV_PREFIX + "CONFIG")
    in_file = _names_in(Path(str(config))) if config else set()
    try:
        return kind(**given)
    except ValidationError as error:
        raise ConfigurationError(_one_line(error, given, in_file)) from error


def _refuse_unknown_variables() -> None:
    for variable in os.environ:
        name = variable.upper()
        if name.startswith(ENV_PREFIX) and name.removeprefix(ENV_PREFIX).lower() not in _KNOWN:
            raise ConfigurationError(
                f"{variable}: there is no such setting; see 'guard-service serve --help'"
            )


def _names_in(config: Path) -> set[str]:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the settings file {config}: {error}") from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigurationError(f"{config} is not valid YAML: {where}") from error
    if not isinstance(content, dict | None):
        raise ConfigurationError(f"{config} must hold settings as 'name: value' lines")
    names = {str(name) for name in content or {}}
    for name in sorted(names):
        if name not in _KNOWN or name == "config":
            raise ConfigurationError(f"{name} in {config}: there is no such setting")
    return names


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
    return f"{name}: '{first['input']}' is not allowed; allowed: {setting.allowed}"
