"""Whether health can be asked at all and what that may connect to: known before the sandbox closes.

Without cluster management the environment names the one endpoint.  With it the CardanoForgeCluster may name any, at
any time: then the usual ports are open, and names are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from config import Config
from ipc.messages import HealthCheck
from outgoing import reach
from outgoing.reach import Reach

USUAL_PORTS: Final = (80, 443)
ANY_HOST: Final = "whichever the CardanoForgeCluster names"
"""Stands for a host name that is not known yet."""


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
    return reach.may_be(environment, wanted)


def of(config: Config, environment: Mapping[str, str]) -> Reach | None:
    """The endpoint and the environment's proxies; None: nothing is ever asked."""
    if not wanted(config):
        return None
    found = reach.of([config.health_check_endpoint] if config.health_check_endpoint else [], environment)
    if not config.enable_cluster_management:
        return found
    return Reach(tuple(sorted({*found.hosts, ANY_HOST})), tuple(sorted({*found.ports, *USUAL_PORTS})))
