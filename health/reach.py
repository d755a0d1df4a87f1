"""Whether health can be asked at all and what that may connect to: known before the sandbox closes.

Without cluster management the environment names the one endpoint.  With it the CardanoForgeCluster may name any, at
any time: then the usual ports are open, and names are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from config import Config, ConfigError, load
from ipc.messages import HealthCheck

USUAL_PORTS: Final = (80, 443)
ANY_HOST: Final = "whichever the CardanoForgeCluster names"
"""Stands for a host name that is not known yet."""
_DEFAULTS: Final = {"http": 80, "https": 443}
_PROXIES: Final = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


@dataclass(frozen=True, slots=True)
class Reach:
    """What is connected to."""

    hosts: tuple[str, ...]
    """Numbers or names."""
    ports: tuple[int, ...]


def wanted(config: Config) -> bool:
    """Whether there may ever be an endpoint to ask."""
    return config.enable_cluster_management or bool(config.health_check_endpoint)


def by_environment(config: Config) -> HealthCheck:
    """What is to be asked where no CardanoForgeCluster says otherwise."""
    return HealthCheck(
        config.health_check_endpoint,
        config.health_check_interval,
        config.health_check_timeout,
        config.health_check_failure_threshold,
    )


def may_be_wanted(environment: Mapping[str, str]) -> bool:
    """The same before the configuration was checked; with mistakes in it nothing is wanted."""
    try:
        return wanted(load(environment))
    except ConfigError:
        return False


def of(config: Config, environment: Mapping[str, str]) -> Reach | None:
    """The endpoint and the environment's proxies; None: nothing is ever asked."""
    if not wanted(config):
        return None
    addresses = [config.health_check_endpoint] if config.health_check_endpoint else []
    addresses += [with_scheme(environment[name]) for name in _PROXIES if environment.get(name)]
    found = [known for known in map(_address, addresses) if known is not None]
    hosts, ports = {host for host, _ in found}, {port for _, port in found}
    if config.enable_cluster_management:
        hosts.add(ANY_HOST)
        ports.update(USUAL_PORTS)
    return Reach(tuple(sorted(hosts)), tuple(sorted(ports)))


def with_scheme(proxy: str) -> str:
    """A proxy's address as a URL: many write `proxy:3128`."""
    return proxy if "://" in proxy else f"http://{proxy}"


def _address(url: str) -> tuple[str, int] | None:
    """None: it has no usable host or port, so nobody will connect there."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None
