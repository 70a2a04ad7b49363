"""Where settings come from, and which source wins."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)


class LayeredSettings(BaseSettings):
    """Flags win over the environment, the environment over the file that `config` names.

    A subclass gives its `env_prefix`.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    config: Path | None = Field(
        None, description="YAML file with any of the other settings, by these names."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, the strongest first."""
        del dotenv_settings, file_secret_settings
        file = init_settings().get("config") or env_settings().get("config")
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, file)
