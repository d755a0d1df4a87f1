"""What create, update, patch and delete mean: the rules between a request and the store.

Optimistic concurrency, the status subresource, generation, immutable metadata, pruning, defaults and validation are
decided here and nowhere else.  Every method is synchronous: in one event loop each is atomic.
"""

from __future__ import annotations

import copy
import random
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from devkit.api import builtin, crd, errors, patches, schema
from devkit.api.errors import ApiError, Cause
from devkit.api.kinds import ResourceType, dig
from devkit.api.objectmeta import META_SCHEMA, validate_meta
from devkit.api.ownership import Owners, same_but_for_times
from devkit.api.rules import Rules
from devkit.api.shapes import shape_of
from devkit.api.store import Key, Store

Json = dict[str, Any]

_SUFFIX: Final = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Options:
    """What the query of a write may say."""

    field_validation: str = "Warn"
    """Ignore, Warn or Strict: what becomes of unknown fields."""
    dry_run: bool = False
    manager: str = ""
    """Whose the changes are."""
    force: bool = False
    """Whether an apply takes fields over that others own."""


@dataclass(slots=True)
class Written:
    """The answer to a write."""

    body: Json
    created: bool = False
    warnings: list[str] = field(default_factory=list)


class Registry:
    """All resources of a server and the verbs that change their objects."""

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self._resources: dict[tuple[str, str, str], ResourceType] = {}
        self._owners: dict[tuple[tuple[str, str], str, str], Owners] = {}
        self._rules: dict[tuple[tuple[str, str], str], Rules] = {}
        for resource in builtin.BUILTIN:
            self._add(resource)
        for definition in store.items(builtin.CRDS.key, None):
            self._register(definition)

    def resources(self) -> Iterable[ResourceType]:
        """Every resource that is served."""
        return self._resources.values()

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        """The resource under that address."""
        return self._resources.get((group, version, plural))

    # --- reading ---

    def get(self, resource: ResourceType, namespace: str, name: str) -> Json:
        """The object, not to be changed.  404."""
        found = self.store.get(_key(resource, namespace, name))
        if found is None:
            raise errors.not_found(resource, name)
        return found

    def has(self, resource: ResourceType, namespace: str, name: str) -> bool:
        """Whether there is such an object."""
        return self.store.get(_key(resource, namespace, name)) is not None

    # --- writing ---

    def create(self, resource: ResourceType, namespace: str, body: Json, options: Options) -> Written:
        """POST.  400, 404 (no such namespace), 409, 422, 500 (a resourceVersion was given)."""
        warnings = self._decode(resource, body, options)
        self._check_place(resource, namespace, body["metadata"])
        return self._created(resource, namespace, body, options, warnings)

    def _created(
        self,
        resource: ResourceType,
        namespace: str,
        body: Json,
        options: Options,
        warnings: list[str],
        *,
        applied: bool = False,
    ) -> Written:
        meta = body["metadata"]
        name = meta.get("name") or _generated(meta)
        if dig(body, ("metadata", "resourceVersion")):
            raise errors.internal("resourceVersion should not be set on objects to be created")
        self._check_namespace(resource, namespace)
        if not name:
            raise errors.invalid(
                resource,
                "",
                [Cause("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")],
            )
        meta["name"] = name
        _strip_server_fields(meta)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = _now()
        if resource.status_subresource and resource.custom:
            body.pop("status", None)
        if resource.custom:
            meta["generation"] = 1
        self._accept(resource, body, None, applied=applied)
        if self.store.get(_key(resource, namespace, name)) is not None:
            raise errors.already_exists(resource, name)
        if not applied:
            self._owners_of(resource, "").after_update(None, body, options.manager)
        return Written(self._commit(resource, namespace, body, options), created=True, warnings=warnings)

    def update(
        self, resource: ResourceType, namespace: str, name: str, body: Json, sub: str, options: Options
    ) -> Written:
        """PUT to the object or (sub "status") its status.  400, 404, 409, 422."""
        warnings = self._decode(resource, body, options)
        self._check_place(resource, namespace, body["metadata"])
        if not body["metadata"].get("name"):
            raise errors.bad_request(
                f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        if body["metadata"]["name"] != name:
            raise errors.bad_request(
                f"the name of the object ({body['metadata']['name']}) does not match the name on the URL ({name})"
            )
        current = self.store.get(_key(resource, namespace, name))
        if current is None:
            if resource.create_on_update and not sub:
                return self._create_by_update(resource, namespace, name, body, options)
            raise errors.not_found(resource, name)
        _check_version(resource, namespace, name, body["metadata"], current)
        return Written(self._replace(resource, namespace, current, body, sub, options), warnings=warnings)

    def patch(
        self,
        resource: ResourceType,
        namespace: str,
        name: str,
        change: Callable[[Json], Json],
        sub: str,
        options: Options,
    ) -> Written:
        """PATCH: `change` gives the patched object.  400, 404, 409, 422."""
        current = self.get(resource, namespace, name)
        try:
            body = _copied(change(current))
        except patches.PatchError as error:
            raise errors.rejected_patch() from error
        version, uid = dig(body, ("metadata", "resourceVersion")), dig(body, ("metadata", "uid"))
        try:
            warnings = self._decode(resource, body, options)
        except ApiError as error:
            if error.code != HTTPStatus.BAD_REQUEST:
                raise
            raise errors.invalid_patch(error.message) from error
        meta = body["metadata"]
        meta["resourceVersion"] = version or current["metadata"]["resourceVersion"]
        if meta.get("name") != name:
            raise errors.bad_request(
                f"the name of the object ({meta.get('name', '')}) does not match the name on the URL ({name})"
            )
        self._check_place(resource, namespace, meta)
        _check_uid(resource, name, uid, current)
        _check_version(resource, namespace, name, meta, current)
        return Written(self._replace(resource, namespace, current, body, sub, options), warnings=warnings)

    def apply(
        self, resource: ResourceType, namespace: str, name: str, config: Json, sub: str, options: Options
    ) -> Written:
        """PATCH by server-side apply: creates the object when there is none.  400, 404, 409, 422, 500."""
        current = self.store.get(_key(resource, namespace, name))
        if current is None and sub:
            raise errors.not_found(resource, name)
        body = self._owners_of(resource, sub).apply(current, config, options.manager, force=options.force)
        body = _copied(body)
        meta = body["metadata"]
        if current is None and meta.get("uid"):
            why = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise errors.conflict(resource, name, why)
        if current is not None:
            _check_uid(resource, name, dig(config, ("metadata", "uid")), current)
        self._check_place(resource, namespace, meta)
        if not meta.get("name"):
            raise errors.bad_request(
                f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        if meta["name"] != name:
            raise errors.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            )
        try:
            warnings = self._decode(resource, body, options)
        except ApiError as error:
            kind = f"{resource.api_version}, Kind={resource.kind}"
            what = f"{dig(config, ('metadata', 'namespace')) or ''}/{name}; {kind}"
            raise errors.internal(
                f"failed to convert new object ({what}) to proper version:"
                f" unable to convert unstructured object to {kind}: {error.__cause__ or error}"
            ) from error
        if current is None:
            return self._created(resource, namespace, body, options, warnings, applied=True)
        _check_version(resource, namespace, name, meta, current)
        return Written(self._replace(resource, namespace, current, body, sub, options, applied=True), warnings=warnings)

    def delete(self, resource: ResourceType, namespace: str, name: str, body: Json, options: Options) -> Json:
        """DELETE: the Status of its success, or the object while finalizers hold it.  404, 409."""
        current = self.get(resource, namespace, name)
        meta = current["metadata"]
        for field_name, said in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = dig(body, ("preconditions", field_name))
            if wanted is not None and wanted != meta[field_name]:
                raise errors.failed_precondition(resource, name, said, wanted, meta[field_name])
        if meta.get("finalizers"):
            return self._mark_deleted(resource, namespace, current, options)
        if not options.dry_run:
            if resource.key == builtin.CRDS.key:
                self._unregister(current)
            elif resource.key == builtin.NAMESPACES.key:
                self._empty_namespace(name)
            self.store.delete(_key(resource, namespace, name))
        details: Json = {"name": name, "kind": resource.plural, "uid": meta["uid"]}
        if resource.group:
            details["group"] = resource.group
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    # --- the parts ---

    def _decode(self, resource: ResourceType, body: Json, options: Options) -> list[str]:
        """Checks kind and types, removes unknown fields; returns warnings about them."""
        _check_kind(resource, body)
        meta = body.get("metadata")
        unknown: list[str] = []
        try:
            builtin.decode_meta(body)
            if isinstance(meta, dict):
                unknown += schema.prune(META_SCHEMA, meta, "metadata")
            if resource.schema is not None:
                unknown += schema.prune(_with_meta(resource.schema), body)
            if not resource.custom:
                builtin.decode(resource, body)
        except builtin.DecodeError as error:
            raise errors.bad_request(_cannot_be_handled(resource, str(error))) from error
        body["metadata"].pop("selfLink", None)
        said = [f'unknown field "{path}"' for path in unknown]
        if said and options.field_validation == "Strict":
            raise errors.bad_request(_cannot_be_handled(resource, "strict decoding error: " + ", ".join(said)))
        return said if options.field_validation == "Warn" else []

    def _accept(self, resource: ResourceType, body: Json, current: Json | None, *, applied: bool) -> None:
        """Defaults, then everything that may be wrong at once.  422."""
        name = body["metadata"]["name"]
        causes: list[Cause] = []
        causes += validate_meta(body["metadata"])
        if resource.custom and resource.schema is not None:
            schema.apply_defaults(resource.schema, body, keep_nulls=applied)
            causes += schema.validate(resource.schema, body)
            causes += self._rules_of(resource, resource.schema).check(body, current, causes)
        elif resource.key == builtin.NAMESPACES.key:
            body["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
        else:
            causes += builtin.validate(resource, body)
        if causes:
            raise errors.invalid(resource, name, causes)

    def _create_by_update(
        self, resource: ResourceType, namespace: str, name: str, body: Json, options: Options
    ) -> Written:
        meta = body["metadata"]
        if meta.get("uid"):
            raise errors.wrong_uid(resource, name, _storage_key(resource, namespace, name), meta["uid"], "")
        # As on the real server: a resourceVersion alone does not keep a deleted Lease from being made anew.
        meta.pop("resourceVersion", None)
        return self.create(resource, namespace, body, options)

    def _replace(
        self,
        resource: ResourceType,
        namespace: str,
        current: Json,
        body: Json,
        sub: str,
        options: Options,
        *,
        applied: bool = False,
    ) -> Json:
        """The new state in place of the current one, or the current one when nothing changed."""
        if sub == "status":
            status, entries = body.get("status"), body["metadata"].get("managedFields")
            body = _copied(current)
            body.pop("status", None)
            body["metadata"].pop("managedFields", None)
            if status is not None:
                body["status"] = status
            if applied and entries:
                body["metadata"]["managedFields"] = entries
        else:
            self._carry_over(resource, current, body)
        self._accept(resource, body, current, applied=applied)
        if not applied:
            self._owners_of(resource, sub).after_update(current, body, options.manager)
        if not sub and resource.custom and _without_meta(body) != _without_meta(current):
            body["metadata"]["generation"] = current["metadata"].get("generation", 1) + 1
        body["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
        if body == current or same_but_for_times(body, current):
            return current
        if body["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
            if not options.dry_run:
                self.store.delete(_key(resource, namespace, body["metadata"]["name"]))
            return body
        return self._commit(resource, namespace, body, options)

    def _carry_over(self, resource: ResourceType, current: Json, body: Json) -> None:
        """What a write of the object itself cannot change."""
        old, new = current["metadata"], body["metadata"]
        for name in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
            new.pop(name, None)
            if name in old:
                new[name] = old[name]
        if resource.namespaced:
            new["namespace"] = old["namespace"]
        if resource.status_subresource or resource.key == builtin.CRDS.key:
            body.pop("status", None)
            if "status" in current:
                body["status"] = current["status"]

    def _commit(self, resource: ResourceType, namespace: str, body: Json, options: Options) -> Json:
        if resource.key == builtin.CRDS.key:
            self._check_definition(body)
            body["status"] = crd.established(body, body["metadata"]["creationTimestamp"])
        elif resource.key == builtin.NAMESPACES.key:
            body["spec"] = {"finalizers": ["kubernetes"]}
            body.setdefault("status", {"phase": "Active"})
        if options.dry_run:
            return body
        stored = self.store.put(_key(resource, namespace, body["metadata"]["name"]), body)
        if resource.key == builtin.CRDS.key:
            self._unserve(stored)
            self._register(stored)
        return stored

    def _mark_deleted(self, resource: ResourceType, namespace: str, current: Json, options: Options) -> Json:
        if current["metadata"].get("deletionTimestamp"):
            return current
        body = _copied(current)
        body["metadata"] |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
        if resource.custom:
            body["metadata"]["generation"] += 1
        return self._commit(resource, namespace, body, options)

    def _check_place(self, resource: ResourceType, namespace: str, meta: Json) -> None:
        if resource.namespaced and meta.setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _check_namespace(self, resource: ResourceType, namespace: str) -> None:
        if resource.namespaced and self.store.get(_key(builtin.NAMESPACES, "", namespace)) is None:
            raise errors.not_found(builtin.NAMESPACES, namespace)

    def _empty_namespace(self, namespace: str) -> None:
        for resource in {resource.key: resource for resource in self._resources.values()}.values():
            if resource.namespaced:
                for body in self.store.items(resource.key, namespace):
                    self.store.delete(_key(resource, namespace, body["metadata"]["name"]))

    # --- definitions ---

    def _add(self, resource: ResourceType) -> None:
        self._resources[resource.group, resource.version, resource.plural] = resource

    def _owners_of(self, resource: ResourceType, sub: str) -> Owners:
        address = (resource.key, resource.version, sub)
        if address not in self._owners:
            self._owners[address] = Owners(resource, shape_of(resource.schema), sub)
        return self._owners[address]

    def _rules_of(self, resource: ResourceType, given: Json) -> Rules:
        address = (resource.key, resource.version)
        if address not in self._rules:
            self._rules[address] = Rules(given)
        return self._rules[address]

    def _register(self, definition: Json) -> None:
        for resource in crd.resources_of(definition):
            self._add(resource)

    def _check_definition(self, definition: Json) -> None:
        try:
            crd.resources_of(definition)
        except (KeyError, TypeError, AttributeError) as error:
            cause = Cause("FieldValueRequired", "spec", f"Required value: {error}")
            raise errors.invalid(builtin.CRDS, definition["metadata"]["name"], [cause]) from error

    def _unserve(self, definition: Json) -> None:
        spec = definition["spec"]
        gone = (spec["group"], spec["names"]["plural"])
        self._resources = {key: found for key, found in self._resources.items() if found.key != gone}
        # A changed definition has other shapes and rules.
        self._owners = {key: found for key, found in self._owners.items() if key[0] != gone}
        self._rules = {key: found for key, found in self._rules.items() if key[0] != gone}

    def _unregister(self, definition: Json) -> None:
        for resource in crd.resources_of(definition)[:1]:
            for body in self.store.items(resource.key, None):
                meta = body["metadata"]
                self.store.delete(_key(resource, meta.get("namespace", ""), meta["name"]))
        self._unserve(definition)


def _key(resource: ResourceType, namespace: str, name: str) -> Key:
    return Key(resource.group, resource.plural, namespace if resource.namespaced else "", name)


def _storage_key(resource: ResourceType, namespace: str, name: str) -> str:
    """As the real server names it in an error."""
    group = f"{resource.group}/" if resource.custom else ""
    return f"/registry/{group}{resource.plural}/{namespace}/{name}"


def _check_kind(resource: ResourceType, body: Json) -> None:
    """Absent is as good as right for a built-in kind, and an error for a custom one."""
    if resource.custom:
        if not body.get("kind"):
            raise errors.bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): Object 'Kind' is missing"
            )
        if body.get("apiVersion", "") != resource.api_version:
            raise errors.bad_request(
                f"the API version in the data ({body.get('apiVersion', '')}) does not match the expected API version"
                f" ({resource.api_version})"
            )
        if body["kind"] != resource.kind:
            raise errors.wrong_kind(resource, dig(body, ("metadata", "name")) or "", body["kind"])
        return
    version, kind = body.get("apiVersion") or resource.api_version, body.get("kind") or resource.kind
    body["apiVersion"], body["kind"] = version, kind
    if (version, kind) != (resource.api_version, resource.kind):
        short = str(version).rpartition("/")[2]
        raise errors.bad_request(f'{kind} in version "{short}" cannot be handled as a {resource.kind}')


def _check_uid(resource: ResourceType, name: str, uid: Any, current: Json) -> None:
    """Of an object that is another by now nothing is patched or applied.  ApiError (422)."""
    if uid and uid != current["metadata"]["uid"]:
        immutable = Cause("FieldValueInvalid", "metadata.uid", f'Invalid value: "{uid}": field is immutable')
        raise errors.invalid(resource, name, [immutable])


def _check_version(resource: ResourceType, namespace: str, name: str, meta: Json, current: Json) -> None:
    """Compare-and-swap: uid and resourceVersion must be those of the current state."""
    held = current["metadata"]
    if meta.get("uid") and meta["uid"] != held["uid"]:
        raise errors.wrong_uid(resource, name, _storage_key(resource, namespace, name), meta["uid"], held["uid"])
    version = meta.get("resourceVersion", "")
    if version in ("", "0"):
        if resource.unconditional_update:
            return
        raise errors.not_versioned(resource, name)
    if not version.isdecimal():
        raise errors.internal(f'strconv.ParseUint: parsing "{version}": invalid syntax')
    if version != held["resourceVersion"]:
        raise errors.conflict(resource, name, errors.MODIFIED)


def _cannot_be_handled(resource: ResourceType, why: str) -> str:
    return f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}'


def _with_meta(given: Json) -> Json:
    """The schema of a custom resource says nothing of its metadata; the server knows it all the same."""
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        **given.get("properties", {}),
        "metadata": META_SCHEMA,
    }
    return {**given, "properties": properties}


def _copied(body: Json) -> Json:
    """A deep copy, but for managedFields, which nobody changes in place."""
    meta = body.get("metadata")
    entries = meta.get("managedFields") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or entries is None:
        return copy.deepcopy(body)
    copied = copy.deepcopy({**body, "metadata": {name: meta[name] for name in meta if name != "managedFields"}})
    copied["metadata"]["managedFields"] = entries
    return copied


def _without_meta(body: Json) -> Json:
    return {name: value for name, value in body.items() if name != "metadata"}


def _strip_server_fields(meta: Json) -> None:
    for name in ("resourceVersion", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
        meta.pop(name, None)


def _generated(meta: Json) -> str:
    start = meta.get("generateName")
    return f"{start}{''.join(random.choices(_SUFFIX, k=5))}" if start else ""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
