"""Settings of the gateway, from flags, the environment and a YAML file, in this order."""

from chat_gateway.settings.gateway import GatewaySettings
from chat_gateway.settings.loading import load

__all__ = ["GatewaySettings", "load"]
