"""A setting as an option of a command."""

import inspect
from typing import Annotated

import typer

from guard_service.configuration.reference import SettingReference


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
