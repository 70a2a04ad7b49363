"""Which addresses a model server may have; they come from the configuration and nowhere else."""

from ipaddress import IPv6Address, ip_address

import httpx

from guard_service.moderation import ConfigurationError

_LAST_PORT = 65535


def upstream_address(base_url: str) -> httpx.URL:
    """The base URL of an OpenAI-compatible server, such as `http://model-server:8000/v1`.

    Parsed once: what is checked here is the very object that requests are made from.

    Raises:
        ConfigurationError: what is wrong with it, without repeating a password it may hold.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ConfigurationError("upstream address: this is no URL") from None
    if url.scheme not in {"http", "https"}:
        raise ConfigurationError("upstream address: it must begin with http:// or https://")
    if url.userinfo or "\\" in base_url or "@" in url.netloc.decode():
        raise ConfigurationError(
            "upstream address: it must hold no user name or password; the key is a setting apart"
        )
    if url.query or url.fragment:
        raise ConfigurationError("upstream address: it must end with its path, such as /v1")
    if not url.host or _is_never_a_server(url.host) or (url.port or 0) > _LAST_PORT:
        raise ConfigurationError("upstream address: this host can be no model server")
    return url.copy_with(path=url.path.rstrip("/") + "/")


def _is_never_a_server(host: str) -> bool:
    """Addresses that serve credentials of the machine, or hide another address."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    hides_another = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    special = address.is_link_local or address.is_multicast or address.is_unspecified
    return special or hides_another
