"""What the services would read: the manifests' variables and files, through the real settings."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from chat_gateway import composition as gateway_composition
from chat_gateway.settings import GatewaySettings
from chat_gateway.settings import load as load_gateway
from guard_service import composition as guard_composition
from guard_service.settings import ServeSettings
from guard_service.settings import load as load_guard
from tests.deploy.manifests import (
    GATEWAY,
    GUARD,
    Manifests,
    Object,
    app_of,
    environment_of,
    pod_of,
    server_in,
)


def server_of(app: str, manifests: Manifests) -> Object:
    [server] = [each for each in manifests.servers() if app_of(each) == app]
    return server


def guard_settings(manifests: Manifests) -> ServeSettings:
    return _read(server_of(GUARD, manifests), manifests)  # type: ignore[return-value]


def gateway_settings(manifests: Manifests) -> GatewaySettings:
    return _read(server_of(GATEWAY, manifests), manifests)  # type: ignore[return-value]


def settings_of(server: Object, manifests: Manifests) -> ServeSettings | GatewaySettings:
    """The settings a server would start with; raises `ConfigurationError` as it would."""
    return _read(server, manifests)


def policies_of(server: Object, manifests: Manifests) -> list[str]:
    """The ids of the policies a server would read."""
    with mounted(server, manifests) as variables, mock.patch.dict(os.environ, variables):
        if app_of(server) == GUARD:
            return list(guard_composition.read_policies(load_guard(ServeSettings)))
        return list(gateway_composition.read_policies(load_gateway()).by_id)


def _read(server: Object, manifests: Manifests) -> ServeSettings | GatewaySettings:
    with mounted(server, manifests) as variables, mock.patch.dict(os.environ, variables):
        return load_guard(ServeSettings) if app_of(server) == GUARD else load_gateway()


@contextmanager
def mounted(server: Object, manifests: Manifests) -> Iterator[dict[str, str]]:
    """The server's variables, with its volumes laid out in a folder and the paths in them moved."""
    container = server_in(server)
    given = environment_of(container, manifests)
    variables = dict(given)
    volumes = {volume["name"]: volume for volume in pod_of(server)["volumes"]}
    with tempfile.TemporaryDirectory() as scratch:
        for mount in container["volumeMounts"]:
            place = Path(scratch) / mount["mountPath"].lstrip("/")
            lay_out(volumes[mount["name"]], place, manifests)
            for name, value in given.items():
                if value.startswith(f"{mount['mountPath']}/"):
                    variables[name] = scratch + value
                    if "persistentVolumeClaim" in volumes[mount["name"]]:
                        Path(scratch + value).mkdir(parents=True, exist_ok=True)
        yield {
            name: value
            for name, value in variables.items()
            if name.startswith(("GUARD_", "GATEWAY_"))
        }


def lay_out(volume: Object, place: Path, manifests: Manifests) -> None:
    """What a container would find where the volume is mounted."""
    place.mkdir(parents=True, exist_ok=True)
    if "configMap" in volume:
        for name, content in manifests.config_map(volume["configMap"]["name"]).items():
            (place / name).write_text(content, encoding="utf-8")
