"""Give a command one option per setting, made from the settings themselves."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer

from guard_service.configuration.options import Command, option_of, with_options
from guard_service.configuration.reference import SettingReference, references
from guard_service.settings import ModelSettings, ServeSettings, load


def with_settings(shown: type[ModelSettings]) -> Callable[[Command], Command]:
    """Replace a command's first parameter, `settings`, by an option for every setting of `shown`.

    The command receives whole `ServeSettings`: what is not an option of it comes from the
    environment, the settings file or the defaults.
    """
    options = [_option(each) for each in references(shown)]

    def read(flags: Mapping[str, Any], given: Mapping[str, Any]) -> ServeSettings:
        if given.get("target") and flags:
            raise typer.BadParameter(
                "--target asks a server that has its own settings; "
                f"leave out {', '.join(name.replace('_', '-') for name in flags)}"
            )
        return load(ServeSettings, flags)

    return lambda command: with_options(command, options, read)


def _option(setting: SettingReference) -> inspect.Parameter:
    is_of_the_model = setting.name in ModelSettings.model_fields
    return option_of(setting, panel="Model settings" if is_of_the_model else "Server settings")
