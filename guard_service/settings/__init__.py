"""Settings of the service, from flags, the environment and a YAML file, in this order."""

from guard_service.settings.loading import load
from guard_service.settings.model import ModelSettings
from guard_service.settings.serve import ServeSettings

__all__ = ["ModelSettings", "ServeSettings", "load"]
