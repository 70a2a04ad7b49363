"""Give a command one option per setting, made from the settings themselves."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import typer

from guard_service.configuration.options import option_of
from guard_service.configuration.reference import SettingReference, references
from guard_service.settings import ModelSettings, ServeSettings, load

Command = Callable[..., None]


def with_settings(shown: type[ModelSettings]) -> Callable[[Command], Command]:
    """Replace a command's first parameter, `settings`, by an option for every setting of `shown`.

    The command receives whole `ServeSettings`: what is not an option of it comes from the
    environment, the settings file or the defaults.
    """

    def decorate(command: Command) -> Command:
        options = [_option(each) for each in references(shown)]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {option.name: given.pop(option.name) for option in options}
            flags = {name: value for name, value in values.items() if value is not None}
            if given.get("target") and flags:
                raise typer.BadParameter(
                    "--target asks a server that has its own settings; "
                    f"leave out {', '.join(name.replace('_', '-') for name in flags)}"
                )
            command(load(ServeSettings, flags), **given)

        own = list(inspect.signature(command).parameters.values())[1:]
        run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        return run

    return decorate


def _option(setting: SettingReference) -> inspect.Parameter:
    is_of_the_model = setting.name in ModelSettings.model_fields
    return option_of(setting, panel="Model settings" if is_of_the_model else "Server settings")
