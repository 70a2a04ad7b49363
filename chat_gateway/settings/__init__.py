"""Settings of the gateway, from flags, the environment and a YAML file, in this order."""

from collections.abc import Mapping
from typing import Any

from chat_gateway.settings.ext_proc import ExtProcSettings
from chat_gateway.settings.gateway import GatewaySettings
from guard_service.configuration.loading import SettingsReader

_READER = SettingsReader(ExtProcSettings, command="chat-gateway serve")


def load(flags: Mapping[str, Any] | None = None) -> GatewaySettings:
    """The settings of `serve`; `flags` are values given on the command line, by setting name.

    Raises:
        ConfigurationError: a value is not allowed, a name is unknown, or the file is unreadable.
    """
    return _READER.read(GatewaySettings, flags)


def load_ext_proc(flags: Mapping[str, Any] | None = None) -> ExtProcSettings:
    """The settings of `ext-proc`; otherwise as `load`."""
    return _READER.read(ExtProcSettings, flags)


__all__ = ["ExtProcSettings", "GatewaySettings", "load", "load_ext_proc"]
