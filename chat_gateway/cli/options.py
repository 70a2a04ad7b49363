"""Give a command one option per setting, made from the settings themselves."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from chat_gateway.settings import GatewaySettings, load
from chat_gateway.settings.reference import SettingReference, references

Command = Callable[..., None]


def with_settings(command: Command) -> Command:
    """Replace a command's parameter, `settings`, by an option for every setting but secrets."""
    options = [_option(each) for each in references() if not each.is_secret]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        settings: GatewaySettings = load(
            {name: value for name, value in given.items() if value is not None}
        )
        command(settings)

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return run


def _option(setting: SettingReference) -> inspect.Parameter:
    details = [
        *([setting.allowed] if setting.allowed != "text" else []),
        *([f"default {setting.default}"] if setting.default != "-" else []),
        setting.variable,
    ]
    option = typer.Option(
        setting.flag,
        help=f"{setting.description} ({'; '.join(details)})",
        rich_help_panel="Model that answers" if setting.is_of_the_generator else "Gateway",
        metavar="VALUE",
        show_default=False,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )
