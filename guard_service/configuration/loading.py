"""Read settings, and turn every mistake in them into one line that says what is allowed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from guard_service.configuration.reference import references
from guard_service.configuration.sources import LayeredSettings
from guard_service.moderation import ConfigurationError

S = TypeVar("S", bound=LayeredSettings)


class SettingsReader:
    """Reads settings of the kind `widest` or one it is made from; `command` lists them all."""

    def __init__(self, widest: type[LayeredSettings], *, command: str) -> None:
        self._prefix = widest.model_config.get("env_prefix", "")
        self._known = {each.name: each for each in references(widest)}
        self._command = command

    def read(self, kind: type[S], flags: Mapping[str, Any] | None = None) -> S:
        """Settings of `kind`; `flags` are values given on the command line, by setting name.

        Raises:
            ConfigurationError: a value is not allowed, a name is unknown, or the file is
                unreadable.
        """
        given = dict(flags or {})
        self._refuse_unknown_variables()
        config = given.get("config") or os.environ.get(self._prefix + "CONFIG")
        in_file = self._names_in(Path(str(config))) if config else set()
        try:
            return kind(**given)
        except ValidationError as error:
            raise ConfigurationError(self._one_line(error, given, in_file)) from None

    def _refuse_unknown_variables(self) -> None:
        for variable in os.environ:
            prefix, _, name = variable.upper().partition(self._prefix)
            if not prefix and name.lower() not in self._known:
                raise ConfigurationError(
                    f"{variable}: there is no such setting; see '{self._command} --help'"
                )

    def _names_in(self, config: Path) -> set[str]:
        try:
            content = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the settings file {config}: {error}") from error
        except yaml.YAMLError as error:
            # The error itself quotes the line, and that may hold a key.
            raise ConfigurationError(f"{config} is not valid YAML{_place(error)}") from None
        except ValueError:
            raise ConfigurationError(
                f"{config} is not valid YAML: a value only looks like a date or a number"
            ) from None
        if not isinstance(content, dict | None):
            raise ConfigurationError(f"{config} must hold settings as 'name: value' lines")
        names = {str(name) for name in content or {}}
        for name in sorted(names):
            if name not in self._known or name == "config":
                raise ConfigurationError(f"{name} in {config}: there is no such setting")
        return names

    def _one_line(self, error: ValidationError, given: Mapping[str, Any], in_file: set[str]) -> str:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            return first["msg"].removeprefix("Value error, ")
        setting = self._known[str(first["loc"][0])]
        if setting.name in given:
            name = setting.flag
        elif setting.variable in {variable.upper() for variable in os.environ}:
            name = setting.variable
        elif setting.name in in_file:
            name = f"{setting.name} in the settings file"
        else:
            name = setting.name
        value = "this value" if setting.is_secret else f"'{first['input']}'"
        return f"{name}: {value} is not allowed; allowed: {setting.allowed}"


def _place(error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f": line {mark.line + 1}" if mark else ""
