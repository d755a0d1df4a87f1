"""Which of our kinds a server must serve, with which fields; and what its OpenAPI document says of them.

The lists are those of deploy/crds (a test compares).  A server drops what a definition does not know, without a word:
an older definition in a cluster is noticed only by looking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kube.session import Json


@dataclass(frozen=True, slots=True)
class Kind:
    """One of our kinds."""

    kind: str
    plural: str
    fields: tuple[str, ...]
    """Every field of spec and status."""
    needed: tuple[str, ...] = ()
    """Those without which something does not work; the others only tell."""


def _below(parent: str, words: str) -> tuple[str, ...]:
    return tuple(f"{parent}.{word}" for word in words.split())


LEADER: Final = Kind(
    "CardanoLeader",
    "cardanoleaders",
    (
        *_below("spec", "namespace description"),
        *_below("status", "leaderPod forgingEnabled lastTransitionTime reason message opCertCounter"),
        *_below("status", "observedGeneration conditions"),
    ),
    needed=_below("status", "leaderPod forgingEnabled"),
)
_OVERRIDE: Final = _below("spec.override", "enabled reason expiresAt forcePriority forceState")
CLUSTER: Final = Kind(
    "CardanoForgeCluster",
    "cardanoforgeclusters",
    (
        *_below("spec.network", "name magic era"),
        *_below("spec.pool", "id idHex name ticker description"),
        *_below("spec.application", "type version environment"),
        *_below("spec", "region forgeState priority"),
        *_below("spec.healthCheck", "enabled endpoint interval timeout failureThreshold headers"),
        *_OVERRIDE,
        *_below("status", "effectiveState effectivePriority"),
        *_below("status.networkStatus", "network magic syncStatus tipSlot tipHash epochNo"),
        *_below("status", "poolStatus activeLeader poolLeader fencingToken forgingEnabled lastTransition"),
        *_below("status", "reason message"),
        *_below("status.healthStatus", "healthy lastProbeTime consecutiveFailures message responseTime"),
        *_below("status", "observedGeneration conditions"),
    ),
    needed=(
        *_below("spec", "region forgeState priority"),
        *_OVERRIDE,
        *_below("status", "effectiveState activeLeader forgingEnabled fencingToken conditions"),
        "status.healthStatus.lastProbeTime",
    ),
)


def dropped(wanted: Kind, schema: Json) -> tuple[str, ...]:
    """The fields that an object of this OpenAPI v3 schema cannot hold."""
    return tuple(field for field in wanted.fields if not _holds(schema, field.split(".")))


def _holds(schema: object, path: list[str]) -> bool:
    if not isinstance(schema, dict):
        return False
    if not path or schema.get("x-kubernetes-preserve-unknown-fields") is True or schema.get("additionalProperties"):
        return True
    properties = schema.get("properties")
    return isinstance(properties, dict) and _holds(properties.get(path[0]), path[1:])


def schema_of(document: Json, group: str, version: str, kind: str) -> Json | None:
    """A kind's schema in the OpenAPI v3 document of its group and version; None: it is not there."""
    wanted = {"group": group, "version": version, "kind": kind}
    for schema in _schemas(document):
        named = schema.get("x-kubernetes-group-version-kind")
        if isinstance(named, list) and wanted in named:
            return schema
    return None


def _schemas(document: Json) -> Iterator[Json]:
    components = document.get("components")
    schemas = components.get("schemas") if isinstance(components, dict) else None
    for schema in schemas.values() if isinstance(schemas, dict) else ():
        if isinstance(schema, dict):
            yield schema


def resource(listed: Json, plural: str, kind: str) -> str:
    """Why a group version's APIResourceList does not have what we write to; empty: it has."""
    items = listed.get("resources")
    known = {
        item["name"]: item
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }
    found = known.get(plural)
    if found is None:
        return "the definition is not installed"
    if found.get("kind") != kind:
        return f"{plural} are of kind {found.get('kind')} there"
    if found.get("namespaced") is not True:
        return f"{plural} are not namespaced there"
    return "" if f"{plural}/status" in known else "it has no status subresource there"
