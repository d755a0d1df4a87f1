"""What may be connected to: where an address and the environment's proxies lead, known before the sandbox closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from config import Config, ConfigError, load

_DEFAULTS: Final = {"http": 80, "https": 443}
_PROXIES: Final = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


@dataclass(frozen=True, slots=True)
class Reach:
    """What is connected to."""

    hosts: tuple[str, ...]
    """Numbers or names."""
    ports: tuple[int, ...]


def of(addresses: Iterable[str], environment: Mapping[str, str]) -> Reach:
    """These addresses and the environment's proxies."""
    every = [*addresses, *(with_scheme(environment[name]) for name in _PROXIES if environment.get(name))]
    found = [known for known in map(_address, every) if known is not None]
    return Reach(tuple(sorted({host for host, _ in found})), tuple(sorted({port for _, port in found})))


def may_be(environment: Mapping[str, str], wanted: Callable[[Config], bool]) -> bool:
    """Whether it is wanted, before the configuration was checked; with mistakes in it nothing is."""
    try:
        return wanted(load(environment))
    except ConfigError:
        return False


def of_notices(config: Config, environment: Mapping[str, str]) -> Reach | None:
    """NOTIFY_URL and the environment's proxies; None: no notice is ever sent."""
    return of([config.notify_url], environment) if config.notify_url else None


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
