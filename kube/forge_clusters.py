"""CardanoForgeCluster: what operators say of a pool's clusters, and what the clusters say of themselves.

Both directions are checked: a spec that cannot be read becomes an `Unreadable` that names the field and the remedy,
never a guess.  The status is written by merge patch upon the version that is known, so that a late write of a former
leader is refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from kube.errors import ApiFailure, Failure
from kube.session import ApiSession, Json
from policy.arbitration import DEFAULT_PRIORITY, ClusterSpec, ForgeState, HealthSpec, Override
from policy.health import parse_duration
from policy.wall_time import rfc3339

PLURAL: Final = "cardanoforgeclusters"
POOL_LABEL: Final = "cardano.io/pool"
"""Label: `<network>-<pool id, 10>`; whoever looks for the clusters of a pool asks for it."""
MARK: Final = "cardano.io/spec-agreed"
"""Annotation: `policy.replicas.mark`."""
MANAGER: Final = "cardano-forge-manager"
"""Field manager of what the environment sets: applied without force, so never over what a person set."""
CARRIER: Final = "cardano-forge-manager-replica"
"""Field manager of what is carried from one coordination API to another."""
MOST_HEADERS: Final = 16 * 1024
"""Bytes of all names and values of spec.healthCheck.headers: they go to the prober in one frame with much else."""


class Unreadable(ValueError):  # noqa: N818  # a state of the object, said to the operator
    """What in a spec is wrong, and what would be right."""


@dataclass(frozen=True, slots=True)
class ForgeCluster:
    """One object as it was read."""

    name: str
    version: str
    uid: str
    generation: int
    region: str
    pool_id: str
    network: str
    spec: ClusterSpec | None
    unreadable: str
    stops: ClusterSpec | None
    """Of a spec that cannot be read as a whole: that it says Disabled; None: it can be, or does not."""
    mark: str
    label: str
    """The value of POOL_LABEL; empty: it has none."""
    status: Json
    raw: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterChange:
    kind: str
    """ADDED, MODIFIED or DELETED."""
    cluster: ForgeCluster
    version: str


class ForgeClusterClient:
    """The CardanoForgeClusters of one pool on one API server.  Every method raises ApiFailure and ends in time."""

    def __init__(self, session: ApiSession, namespace: str, pool: str, *, group: str, version: str) -> None:
        """`pool`: value of POOL_LABEL."""
        self._session = session
        self._namespace = namespace
        self._pool = pool
        self._api_version = f"{group}/{version}"
        self._folder = f"/apis/{group}/{version}/namespaces/{namespace}/{PLURAL}"

    async def every(self, *, timeout_s: float) -> tuple[list[ForgeCluster], str]:
        """All of the pool that carry its label, and the version that a watch goes on from."""
        raw = await self._session.request("list", self._folder, query=self._of_the_pool(), timeout_s=timeout_s)
        metadata, items = raw.get("metadata"), raw.get("items") or []
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not isinstance(version, str) or not isinstance(items, list):
            raise ApiFailure(Failure.MALFORMED, "a list that is none")
        return [parse_cluster(item) for item in items if isinstance(item, dict)], version

    async def get(self, name: str, *, timeout_s: float) -> ForgeCluster:
        """One, labelled or not.  NOT_FOUND also where the CRD is missing."""
        return parse_cluster(await self._session.request("get", f"{self._folder}/{name}", timeout_s=timeout_s))

    async def watch(self, version: str, *, timeout_s: int) -> AsyncGenerator[ClusterChange, None]:
        """Each change after `version` until the server ends the watch.  GONE: list again."""
        query = [*self._of_the_pool(), ("resourceVersion", version)]
        async with contextlib.aclosing(self._session.watch(self._folder, query, timeout_s=timeout_s)) as events:
            async for event in events:
                if event.get("type") in ("ADDED", "MODIFIED", "DELETED"):
                    cluster = parse_cluster(event["object"])
                    yield ClusterChange(event["type"], cluster, cluster.version)

    async def create(self, name: str, body: Json, *, timeout_s: float) -> ForgeCluster:
        """Make one as `body` (metadata and spec) says.  ALREADY_EXISTS if somebody was faster."""
        query = [("fieldManager", CARRIER)]
        made = self._object(name, body)
        return parse_cluster(
            await self._session.request("create", self._folder, body=made, query=query, timeout_s=timeout_s)
        )

    async def apply(self, name: str, body: Json, *, timeout_s: float) -> ForgeCluster:
        """Server-side apply as MANAGER, made if missing.  CONFLICT: a field is somebody else's."""
        query = [("fieldManager", MANAGER), ("force", "false")]
        return parse_cluster(
            await self._session.request(
                "patch",
                f"{self._folder}/{name}",
                body=self._object(name, body),
                query=query,
                content_type="application/apply-patch+yaml",
                timeout_s=timeout_s,
            )
        )

    async def patch(self, name: str, body: Json, *, version: str, manager: str, timeout_s: float) -> ForgeCluster:
        """Merge patch of metadata and spec upon `version` ("": whichever).  CONFLICT if it is another by now."""
        metadata = dict(body.get("metadata") or {})
        if version:
            metadata["resourceVersion"] = version
        return parse_cluster(
            await self._session.request(
                "patch",
                f"{self._folder}/{name}",
                body=body | {"metadata": metadata},
                query=[("fieldManager", manager)],
                content_type="application/merge-patch+json",
                timeout_s=timeout_s,
            )
        )

    async def patch_status(self, known: ForgeCluster, status: Json, *, timeout_s: float) -> ForgeCluster:
        """Make `status` the object's, upon the version known.  CONFLICT if it is another by now."""
        body = {"metadata": {"resourceVersion": known.version}, "status": difference(known.status, status)}
        return parse_cluster(
            await self._session.request(
                "patch",
                f"{self._folder}/{known.name}/status",
                body=body,
                query=[("fieldManager", MANAGER)],
                content_type="application/merge-patch+json",
                timeout_s=timeout_s,
            )
        )

    def _of_the_pool(self) -> list[tuple[str, str]]:
        return [("labelSelector", f"{POOL_LABEL}={self._pool}")]

    def _object(self, name: str, body: Json) -> Json:
        metadata = {"name": name, "namespace": self._namespace} | dict(body.get("metadata") or {})
        return {"apiVersion": self._api_version, "kind": "CardanoForgeCluster"} | body | {"metadata": metadata}


def difference(old: Json, new: Json) -> Json:
    """The merge patch (RFC 7386) that turns `old` into `new`."""
    patch: Json = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := difference(before, value):
                patch[name] = inner
        elif value != before or name not in old:
            patch[name] = value
    return patch


# --- reading ---


def parse_cluster(raw: Json) -> ForgeCluster:
    """An object as it is; its spec may be unreadable.  Raises ApiFailure if it is no object of the API at all."""
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ApiFailure(Failure.MALFORMED, "a CardanoForgeCluster without metadata")
    version, generation = metadata.get("resourceVersion"), metadata.get("generation")
    spec, status = raw.get("spec"), raw.get("status")
    spec = spec if isinstance(spec, dict) else {}
    annotations, labels = metadata.get("annotations"), metadata.get("labels")
    parsed, why, stops = None, "", None
    try:
        parsed = parse_spec(spec)
    except Unreadable as error:
        why, stops = str(error), parse_disabled(spec)
    return ForgeCluster(
        name=metadata["name"],
        version=version if isinstance(version, str) else "",
        uid=str(metadata.get("uid") or ""),
        generation=generation if type(generation) is int else 0,
        region=_told(spec, "region"),
        pool_id=_told(_inner(spec, "pool"), "id"),
        network=_told(_inner(spec, "network"), "name"),
        spec=parsed,
        unreadable=why,
        stops=stops,
        mark=_told(annotations if isinstance(annotations, dict) else {}, MARK),
        label=_told(labels if isinstance(labels, dict) else {}, POOL_LABEL),
        status=status if isinstance(status, dict) else {},
        raw=raw,
    )


def parse_spec(spec: Json) -> ClusterSpec:
    """The operator's part of a spec.  Raises Unreadable: no field is ever guessed."""
    health, override = _object_at(spec, "healthCheck"), _object_at(spec, "override")
    headers = _object_at(health, "headers", "healthCheck.")
    if not all(isinstance(value, str) for value in headers.values()):
        raise Unreadable("spec.healthCheck.headers must be texts")
    if sum(len(f"{name}{value}".encode()) for name, value in headers.items()) > MOST_HEADERS:
        raise Unreadable(f"spec.healthCheck.headers must not have more than {MOST_HEADERS} bytes together")
    forced = _state(override, "forceState", "override.")
    priority = _whole(override, "forcePriority", 1, 999, "override.")
    return ClusterSpec(
        state=_state(spec, "forgeState") or ForgeState.PRIORITY_BASED,
        priority=_whole(spec, "priority", 1, 999) or DEFAULT_PRIORITY,
        health=HealthSpec(
            enabled=_switch(health, "enabled", "healthCheck."),
            endpoint=_text(health, "endpoint", "healthCheck."),
            interval_s=_duration(health, "interval", "healthCheck.", 30.0),
            timeout_s=_duration(health, "timeout", "healthCheck.", 10.0),
            threshold=_whole(health, "failureThreshold", 1, 100, "healthCheck.") or 3,
            headers=tuple(sorted((str(name), str(value)) for name, value in headers.items())),
        ),
        override=Override(
            enabled=_switch(override, "enabled", "override."),
            reason=_text(override, "reason", "override."),
            expires_at=_instant(override, "expiresAt", "override."),
            force_priority=priority,
            force_state=forced,
        ),
    )


def parse_disabled(spec: Json) -> ClusterSpec | None:
    """What counts of a spec that cannot be read as a whole: Disabled, as a state or by an override; None: neither.

    An instant at which the override ends that cannot be read has not come.
    """
    if spec.get("forgeState") == ForgeState.DISABLED:
        return ClusterSpec(state=ForgeState.DISABLED)
    override = _inner(spec, "override")
    if override.get("forceState") != ForgeState.DISABLED or override.get("enabled") in (None, False):
        return None
    until = None
    with contextlib.suppress(Unreadable):
        until = _instant(override, "expiresAt", "override.")
    reason = _told(override, "reason")
    return ClusterSpec(override=Override(True, reason, until, force_state=ForgeState.DISABLED))


def _told(raw: Json, name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _inner(raw: Json, name: str) -> Json:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _object_at(raw: Json, name: str, of: str = "") -> Json:
    value = raw.get(name)
    if value is not None and not isinstance(value, dict):
        raise Unreadable(f"spec.{of}{name} must be an object")
    return value or {}


def _text(raw: Json, name: str, of: str) -> str:
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        raise Unreadable(f"spec.{of}{name} must be a text")
    return value or ""


def _switch(raw: Json, name: str, of: str) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise Unreadable(f"spec.{of}{name} must be true or false")
    return bool(value)


def _whole(raw: Json, name: str, low: int, high: int, of: str = "") -> int | None:
    value = raw.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise Unreadable(f"spec.{of}{name} must be a whole number from {low} to {high}")
    return value


def _state(raw: Json, name: str, of: str = "") -> ForgeState | None:
    value = raw.get(name)
    if value is None:
        return None
    allowed = [str(state) for state in ForgeState if not (of and state is ForgeState.PRIORITY_BASED)]
    if value not in allowed:
        raise Unreadable(f"spec.{of}{name} must be one of {', '.join(allowed)}")
    return ForgeState(value)


def _duration(raw: Json, name: str, of: str, default: float) -> float:
    value = raw.get(name)
    if value is None:
        return default
    try:
        return parse_duration(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Unreadable(f"spec.{of}{name} {error}") from None


def _instant(raw: Json, name: str, of: str) -> float | None:
    value = raw.get(name)
    if value is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(value, str) and (instant := datetime.fromisoformat(value.upper())).tzinfo is not None:
            rfc3339(instant.timestamp())  # in UTC too it is of the years 1 to 9999
            return instant.timestamp()
    raise Unreadable(f"spec.{of}{name} must be an instant with its zone, such as 2026-01-31T18:00:00Z")


# --- writing ---


def spec_of(spec: ClusterSpec) -> Json:
    """The operator's part as the API has it; absent what is not set."""
    health, override = spec.health, spec.override
    shown: Json = {
        "forgeState": str(spec.state),
        "priority": spec.priority,
        "healthCheck": {
            "enabled": health.enabled,
            "interval": duration(health.interval_s),
            "timeout": duration(health.timeout_s),
            "failureThreshold": health.threshold,
        },
        "override": {"enabled": override.enabled},
    }
    if health.endpoint:
        shown["healthCheck"]["endpoint"] = health.endpoint
    if health.headers:
        shown["healthCheck"]["headers"] = dict(health.headers)
    if override.reason:
        shown["override"]["reason"] = override.reason
    if override.expires_at is not None:
        shown["override"]["expiresAt"] = rfc3339(override.expires_at)
    if override.force_priority is not None:
        shown["override"]["forcePriority"] = override.force_priority
    if override.force_state is not None:
        shown["override"]["forceState"] = str(override.force_state)
    return shown


def duration(seconds: float) -> str:
    """As the CRD's pattern has it, to the millisecond."""
    whole, rest = divmod(round(seconds * 1000), 1000)
    return f"{whole * 1000 + rest}ms" if rest else f"{whole}s"


def owned_by_others(raw: Json) -> frozenset[tuple[str, ...]]:
    """The paths of all fields that some other manager than MANAGER owns (metadata.managedFields, FieldsV1)."""
    found: set[tuple[str, ...]] = set()
    managed = raw.get("metadata", {}).get("managedFields")
    for entry in managed if isinstance(managed, list) else []:
        if isinstance(entry, dict) and entry.get("manager") != MANAGER and not entry.get("subresource"):
            _leaves(entry.get("fieldsV1"), (), found)
    return frozenset(found)


def _leaves(fields: Any, path: tuple[str, ...], found: set[tuple[str, ...]]) -> None:
    inner = {k[2:]: v for k, v in fields.items() if k.startswith("f:")} if isinstance(fields, dict) else {}
    for name, below in inner.items():
        _leaves(below, (*path, name), found)
    if not inner and path:
        found.add(path)


def without(body: Json, paths: frozenset[tuple[str, ...]], at: tuple[str, ...] = ()) -> Json:
    """`body` less the fields at these paths, and less the objects that become empty by it."""
    kept: Json = {}
    for name, value in body.items():
        here = (*at, name)
        if here in paths:
            continue
        if isinstance(value, dict) and value:
            if inner := without(value, paths, here):
                kept[name] = inner
        else:
            kept[name] = value
    return kept


def canonical(value: Json) -> str:
    """One text for equal objects."""
    return json.dumps(value, sort_keys=True)
