"""Who owns which field: metadata.managedFields, and server-side apply, which asks it.

An entry is one manager's: what he applied, or (operation Update) what he changed in any other way.  The rules are those
of k8s.io/apimachinery's util/managedfields and sigs.k8s.io/structured-merge-diff, for kinds with one version.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from devkit.api import errors, fieldsets
from devkit.api.errors import ApiError
from devkit.api.fieldsets import Fields
from devkit.api.kinds import ResourceType, dig
from devkit.api.shapes import Shape

Json = dict[str, Any]

_BEFORE_FIRST: Final = "before-first-apply"
"""Owns what an object held before its first apply, when nobody was recorded."""
_ANCIENT: Final = "ancient-changes"
_UPDATERS_MAX: Final = 10
"""So many managers are kept apart; the changes of the oldest are put together."""
_KUBECTL: Final = "kubectl"
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_NOBODYS: Final = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in ("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields")
        ),
        ("f:metadata", "f:resourceVersion"),
    }
)


class Manager(NamedTuple):
    """Whose an entry is."""

    name: str
    operation: str
    """Apply or Update."""
    subresource: str = ""

    def __str__(self) -> str:
        return f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")


@dataclass(frozen=True, slots=True)
class _Owned:
    fields: Fields
    time: str = ""
    """Of the last change; empty where there was none."""


_Managers = dict[Manager, _Owned]
_Conflict = tuple[Manager, fieldsets.Path]


class Owners:
    """The owners of the fields of one kind's objects, at the object itself or (sub "status") its status."""

    def __init__(self, resource: ResourceType, shape: Shape, sub: str) -> None:
        self._resource = resource
        self._shape = shape
        self._sub = sub
        self._reset: tuple[str, ...] = ()
        """What a write at this address does not change."""
        if resource.status_subresource:
            self._reset = ("metadata", "spec") if sub else ("status",)

    def after_update(self, live: Json | None, body: Json, name: str) -> None:
        """Records in the new state, in place, who changed what.  live: the old state, None at a creation."""
        given = body["metadata"].pop("managedFields", None)
        held = live["metadata"].get("managedFields") if live is not None else None
        entries = self._entries(live, given, held)
        if live is not None and not entries:
            return  # Nobody was recorded, so nobody is until the first apply.
        try:
            before = self._empty() if live is None else _without_managers(live)
            changes = fieldsets.compare(self._shape, before, body)
        except fieldsets.ShapeError:
            _put(body, held)
            return
        if entries is held and not (changes.added or changes.modified or changes.removed):
            _put(body, held)
            return
        _put(body, self._written(self._changed_by(changes, self._read(entries), name)))

    def apply(self, live: Json | None, config: Json, name: str, *, force: bool) -> Json:
        """The state after an apply, with its owners; not yet defaulted.  ApiError (400, 409, 500)."""
        resource, config_meta = self._resource, dig(config, ("metadata",))
        version, kind = config.get("apiVersion") or "", config.get("kind") or ""
        if (version, kind) != (resource.api_version, resource.kind):
            raise errors.bad_request(f"invalid object type: {version or '/'}, Kind={kind}")
        if isinstance(config_meta, dict) and config_meta.get("managedFields") is not None:
            raise errors.bad_request("metadata.managedFields must be nil")
        try:
            fieldsets.check(self._shape, config)
        except fieldsets.ShapeError as error:
            whose = f"{dig(config, ('metadata', 'namespace')) or ''}/{dig(config, ('metadata', 'name')) or ''}"
            what = f"{whose}; {version}, Kind={kind}"
            raise errors.internal(f"failed to create typed patch object ({what}): {error}") from error
        old = self._empty() if live is None else live
        managers = self._read(dig(old, ("metadata", "managedFields")))
        old = _without_managers(old)
        if live is not None and not managers:
            managers = self._changed_by(fieldsets.compare(self._shape, self._empty(), old), {}, _BEFORE_FIRST)
        manager = Manager(name, "Apply", self._sub)
        try:
            body, managers = self._applied(old, config, managers, manager, force=force)
        except _ConflictError as conflict:
            others = self._not_kubectls(old, conflict.conflicts) if name == _KUBECTL else conflict.conflicts
            if others:
                raise self._refusal(others) from conflict
            body, managers = self._applied(old, config, managers, manager, force=True)
        if name == _KUBECTL and dig(body, ("metadata", "annotations", _LAST_APPLIED)):
            body = _with_last_applied(body, config)
        body = {**body, "metadata": dict(body.get("metadata") or {})}
        _put(body, self._written(managers))
        return body

    # --- the parts ---

    def _empty(self) -> Json:
        """What a creation is compared with: for a built-in kind Go's zero value, written as JSON."""
        top: Json = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}
        return top if self._resource.custom else {**top, "metadata": {}, **self._resource.zero}

    def _entries(self, live: Json | None, given: Any, held: Any) -> Any:
        """What a write begins with: a client may write the entries too, and reset them with [] or [{}]."""
        if live is None:
            return given
        if self._sub or given is None or given == held:
            return held
        if given in ([], [{}]):
            return []
        return given if self._read(given) else held

    def _changed_by(self, changes: fieldsets.Comparison, managers: _Managers, name: str) -> _Managers:
        if self._reset:
            changes = changes.filtered(self._reset)
        changed = changes.added | changes.modified
        gone = changed | changes.removed
        left = {manager: replace(owned, fields=owned.fields - gone) for manager, owned in managers.items()}
        own = frozenset(changed) - _NOBODYS
        if own:
            me = Manager(name or "unknown", "Update", self._sub)
            left[me] = _Owned(own | left[me].fields if me in left else own, _now())
        return _capped({manager: owned for manager, owned in left.items() if owned.fields})

    def _applied(
        self, live: Json, config: Json, managers: _Managers, manager: Manager, *, force: bool
    ) -> tuple[Json, _Managers]:
        shape = self._shape
        merged: Json = fieldsets.merge(shape, live, config)
        wanted = fieldsets.without(fieldsets.fields_of(shape, config), self._reset)
        last = managers[manager] if manager in managers else _Owned(frozenset())
        managers = {**managers, manager: _Owned(wanted, last.time)}
        if last.fields:
            merged = self._pruned(merged, managers, last.fields)
        changes = fieldsets.compare(shape, live, merged).filtered(self._reset)
        changed = changes.added | changes.modified
        left: _Managers = {}
        conflicts: list[_Conflict] = []
        for other, owned in managers.items():
            if other == manager:
                continue
            conflicts += [(other, path) for path in fieldsets.in_order(owned.fields & changed)]
            left[other] = replace(owned, fields=owned.fields - changed - changes.removed)
        if conflicts and not force:
            raise _ConflictError(conflicts)
        time = last.time if merged == live else _now()
        left[manager] = _Owned(wanted - _NOBODYS, time)
        return merged, {other: owned for other, owned in left.items() if owned.fields}

    def _pruned(self, merged: Json, managers: _Managers, last: Fields) -> Json:
        """Without what was applied last time, is not now, and is nobody's."""
        shape = self._shape

        def named(fields: Fields) -> Fields:
            return fieldsets.with_named(shape, fields)

        all_fields, last = named(fieldsets.fields_of(shape, merged)), named(last)
        pruned = fieldsets.remove(shape, merged, last)
        owned = named(frozenset().union(*(one.fields for one in managers.values())))
        kept = named(fieldsets.fields_of(shape, pruned)) | owned
        pruned = fieldsets.remove(shape, merged, all_fields - kept)
        return fieldsets.remove(shape, merged, (all_fields - named(fieldsets.fields_of(shape, pruned))) & last)

    def _not_kubectls(self, live: Json, conflicts: list[_Conflict]) -> list[_Conflict]:
        """The conflicts but for fields that kubectl's apply on the client's side set and that still are so."""
        text = dig(live, ("metadata", "annotations", _LAST_APPLIED))
        try:
            last = json.loads(text) if text else None
            if not isinstance(last, dict) or last.get("apiVersion") != self._resource.api_version:
                return conflicts
            changes = fieldsets.compare(self._shape, last, live)
            own = fieldsets.fields_of(self._shape, last) - changes.added - changes.modified - changes.removed
        except ValueError:  # no JSON, or a ShapeError: anybody may have written the annotation
            return conflicts
        return [(manager, path) for manager, path in conflicts if path not in own]

    def _refusal(self, conflicts: list[_Conflict]) -> ApiError:
        said: dict[str, list[str]] = {}
        for manager, path in sorted(conflicts, key=lambda one: one[0]):
            using = f" using {self._resource.api_version}" if manager.operation == "Update" else ""
            said.setdefault(f"{manager}{using}", []).append(fieldsets.shown(path))
        return errors.apply_conflict(said)

    def _read(self, entries: Any) -> _Managers:
        """The entries by manager; none when they cannot be read.  Those of another version are left out."""
        managers: _Managers = {}
        try:
            for entry in entries or ():
                operation, version = entry.get("operation"), entry.get("apiVersion")
                if operation not in ("Apply", "Update") or not version or entry.get("fieldsType") != "FieldsV1":
                    return {}
                manager = Manager(str(entry.get("manager", "")), operation, str(entry.get("subresource", "")))
                fields = fieldsets.decode(entry.get("fieldsV1") or {})
                if version == self._resource.api_version:
                    managers[manager] = _Owned(fields, str(entry.get("time") or ""))
        except ValueError:
            return {}
        return managers

    def _written(self, managers: _Managers) -> list[Json]:
        in_order = sorted(managers.items(), key=lambda one: (one[0].operation, one[1].time, one[0]))
        return [self._entry(manager, owned) for manager, owned in in_order]

    def _entry(self, manager: Manager, owned: _Owned) -> Json:
        entry: Json = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": self._resource.api_version,
            "time": owned.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fieldsets.encode(owned.fields),
            "subresource": manager.subresource,
        }
        return {name: value for name, value in entry.items() if value != ""}


class _ConflictError(Exception):
    """Fields that others own with other values."""

    def __init__(self, conflicts: list[_Conflict]) -> None:
        super().__init__()
        self.conflicts = conflicts


def same_but_for_times(one: Json, other: Json) -> bool:
    """Whether two states differ in nothing but the times of their owners' entries."""
    if {**one, "metadata": 0} != {**other, "metadata": 0}:
        return False
    return _timeless(one["metadata"]) == _timeless(other["metadata"])


def _timeless(meta: Json) -> Json:
    entries = meta.get("managedFields") or []
    return {**meta, "managedFields": [{name: entry[name] for name in entry if name != "time"} for entry in entries]}


def _put(body: Json, entries: Any) -> None:
    if entries:
        body["metadata"]["managedFields"] = entries


def _without_managers(body: Json) -> Json:
    if "metadata" not in body:
        return body
    meta = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": meta}


def _with_last_applied(body: Json, config: Json) -> Json:
    """kubectl's annotation for its apply on the client's side, kept up with what was applied on the server's."""
    meta = dict(config.get("metadata") or {})
    if meta.get("annotations"):
        meta["annotations"] = {name: text for name, text in meta["annotations"].items() if name != _LAST_APPLIED}
    text = json.dumps({**config, "metadata": meta}, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    annotations = {**body["metadata"]["annotations"], _LAST_APPLIED: text}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _capped(managers: _Managers) -> _Managers:
    """At most so many entries of updates: the oldest become one."""
    updaters = sorted((owned.time, manager) for manager, owned in managers.items() if manager.operation == "Update")
    surplus = len(updaters) - _UPDATERS_MAX
    if surplus <= 0:
        return managers
    oldest = updaters[: surplus + 1]
    together = frozenset[fieldsets.Path]().union(*(managers[manager].fields for _, manager in oldest))
    kept = {manager: owned for manager, owned in managers.items() if manager not in {one for _, one in oldest}}
    return {**kept, Manager(_ANCIENT, "Update"): _Owned(together, oldest[-1][0])}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
