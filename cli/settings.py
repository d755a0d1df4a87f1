"""The configuration as people are shown it: each variable's value that counts, never a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from config import Config
from ipc.shown import origin


def effective(config: Config) -> Iterator[tuple[str, str]]:
    """Each variable with the value that counts, those derived from others too."""
    derived = {"LEASE_NAME": config.lease_name, "CRD_NAME": config.crd_name, "CLUSTER_IDENTIFIER": config.cluster}
    for item in dataclasses.fields(config):
        if "name" not in item.metadata:
            continue
        name = item.metadata["name"]
        value = derived.get(name, getattr(config, item.name))
        if item.metadata["confidential"]:
            yield name, origin(value)
        elif isinstance(value, bool):
            yield name, str(value).lower()
        elif isinstance(value, tuple):
            yield name, ",".join("=".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in value)
        else:
            yield name, "" if value is None else str(value)


def given(config: Config) -> dict[str, str]:
    """What the operator set, for a log that many may read: of an address no more than its origin."""
    return {
        name: origin(value) if "://" in value else value for name, value in effective(config) if name in config.explicit
    }
