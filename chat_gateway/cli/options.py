"""Give a command one option per setting, made from the settings themselves."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chat_gateway.settings import GatewaySettings, load, load_ext_proc
from chat_gateway.settings.ext_proc import ext_proc_references
from chat_gateway.settings.generator import GeneratorSettings
from guard_service.configuration.options import Command, option_of, with_options
from guard_service.configuration.reference import SettingReference, references


def with_settings(command: Command) -> Command:
    """Replace a command's parameter, `settings`, by an option for every setting but secrets."""
    return _with(command, references(GatewaySettings), load)


def with_ext_proc_settings(command: Command) -> Command:
    """As `with_settings`, for the settings of an external processor."""
    return _with(command, ext_proc_references(), load_ext_proc)


def _with(
    command: Command,
    settings: Iterable[SettingReference],
    read: Callable[[Mapping[str, Any]], GatewaySettings],
) -> Command:
    options = [_option(each) for each in settings if not each.is_secret]
    return with_options(command, options, lambda flags, _: read(flags))


def _option(setting: SettingReference) -> inspect.Parameter:
    is_of_the_generator = setting.name in GeneratorSettings.__annotations__
    return option_of(setting, panel="Model that answers" if is_of_the_generator else "Gateway")
