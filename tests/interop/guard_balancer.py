"""The shipped Envoy configuration for guards, over guards on this machine."""

from collections.abc import Sequence
from typing import Any

import yaml

from tests.interop.envoy import LOOPBACK, ROOT, configuration

NAME = "guard-balancer.yaml"
CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


def shipped() -> dict[str, Any]:
    """The configuration as it stands in the repository."""
    text = (ROOT / "deploy" / "envoy" / NAME).read_text(encoding="utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def balancing(ports: Sequence[int], *, as_shipped: bool = False) -> dict[str, Any]:
    """Guards on these ports; health is asked more often than shipped, unless `as_shipped`."""
    config = configuration(NAME, {"guards": 0})
    [cluster] = config["static_resources"]["clusters"]
    addresses = [{"socket_address": {"address": LOOPBACK, "port_value": port}} for port in ports]
    endpoints = [{"endpoint": {"address": address}} for address in addresses]
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    if as_shipped:
        cluster["health_checks"] = shipped()["static_resources"]["clusters"][0]["health_checks"]
    return config


def balancing_name(name: str, port: int, *, name_server_port: int) -> dict[str, Any]:
    """All guards that the name lists at this port, found and asked for health as shipped."""
    config = balancing([], as_shipped=True)
    [cluster] = config["static_resources"]["clusters"]
    address = {"socket_address": {"address": name, "port_value": port}}
    cluster["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": address}}]}
    ]
    cluster["type"] = shipped()["static_resources"]["clusters"][0]["type"]
    server = {"protocol": "UDP", "address": LOOPBACK, "port_value": name_server_port}
    cluster["typed_dns_resolver_config"] = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {"@type": CARES, "resolvers": [{"socket_address": server}]},
    }
    return config
