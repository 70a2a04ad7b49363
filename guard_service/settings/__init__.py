"""Settings of the service, from flags, the environment and a YAML file, in this order."""

from guard_service.configuration.loading import SettingsReader
from guard_service.settings.model import ModelSettings
from guard_service.settings.serve import ServeSettings

# Every command accepts the variables and the file of the server, and reads what it needs.
load = SettingsReader(ServeSettings, command="guard-service serve").read

__all__ = ["ModelSettings", "ServeSettings", "load"]
