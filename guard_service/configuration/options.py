"""Settings as options of a command."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from guard_service.configuration.reference import SettingReference

Command = Callable[..., None]


def with_options(
    command: Command,
    options: Sequence[inspect.Parameter],
    read: Callable[[Mapping[str, Any], Mapping[str, Any]], Any],
) -> Command:
    """Replace a command's first parameter, its settings, by `options`.

    `read` makes the settings of the values that were given, by name; it also sees the values of the
    command's own parameters.
    """

    @functools.wraps(command)
    def run(**given: Any) -> None:
        values = {option.name: given.pop(option.name) for option in options}
        flags = {name: value for name, value in values.items() if value is not None}
        command(read(flags, given), **given)

    own = list(inspect.signature(command).parameters.values())[1:]
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return run


def option_of(setting: SettingReference, *, panel: str) -> inspect.Parameter:
    """The parameter of a command that typer makes the option of; `panel` is its part of the help.

    It gives text: only the settings know how to read it.
    """
    details = [
        *([setting.allowed] if setting.allowed != "text" else []),
        *([f"default {setting.default}"] if setting.default != "-" else []),
        setting.variable,
    ]
    option = typer.Option(
        setting.flag,
        help=f"{setting.description} ({'; '.join(details)})",
        rich_help_panel=panel,
        metavar="VALUE",
        show_default=False,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )
