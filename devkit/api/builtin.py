"""The built-in kinds: Lease, Namespace, Event, CustomResourceDefinition, those of RBAC; and what metadata may hold.

A built-in kind is decoded into a Go struct on the real server.  That has two effects which a schema alone has not:
a wrong type is a decoding error (400) and no validation finding (422), and times are written back in one form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from devkit.api import event, microtime, rbac
from devkit.api.errors import Cause
from devkit.api.kinds import Column, ResourceType
from devkit.api.objectmeta import META_SCHEMA
from devkit.api.schema import type_name
from devkit.api.schema import validate as validate_schema

Json = dict[str, Any]

_STRING: Final[Json] = {"type": "string"}
_INT32: Final[Json] = {"type": "integer", "format": "int32"}
_ANYTHING: Final[Json] = {"x-kubernetes-preserve-unknown-fields": True}
_MICRO_TIME: Final[Json] = {"type": "string", "format": "micro-time"}

_TOP: Final[Json] = {"apiVersion": _STRING, "kind": _STRING, "metadata": META_SCHEMA}

LEASE_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        **_TOP,
        "spec": {
            "type": "object",
            "properties": {
                "holderIdentity": _STRING,
                "leaseDurationSeconds": _INT32,
                "acquireTime": _MICRO_TIME,
                "renewTime": _MICRO_TIME,
                "leaseTransitions": _INT32,
                "strategy": _STRING,
                "preferredHolder": _STRING,
            },
        },
    },
}


def _version_names(versions: list[Json]) -> str:
    return ",".join(f"{one['name']}(storage)" if one.get("storage") else one["name"] for one in versions)


_AGE: Final = Column("Age", "date", ("metadata", "creationTimestamp"), description="Time since it was created.")

LEASES: Final = ResourceType(
    "coordination.k8s.io",
    "v1",
    "Lease",
    "leases",
    "lease",
    create_on_update=True,
    schema=LEASE_SCHEMA,
    zero={"spec": {}},
    columns=(Column("Holder", "string", ("spec", "holderIdentity")), _AGE),
)
NAMESPACES: Final = ResourceType(
    "",
    "v1",
    "Namespace",
    "namespaces",
    "namespace",
    namespaced=False,
    short_names=("ns",),
    status_subresource=True,
    unconditional_update=True,
    columns=(Column("Status", "string", ("status", "phase")), _AGE),
    field_labels=("status.phase",),
    zero={"spec": {}, "status": {}},
)
EVENTS: Final = ResourceType(
    "",
    "v1",
    "Event",
    "events",
    "event",
    short_names=("ev",),
    create_on_update=True,
    unconditional_update=True,
    schema={"type": "object", "properties": {**_TOP, **event.FIELDS}},
    columns=event.COLUMNS,
    field_labels=event.FIELD_LABELS,
    label_values=event.LABEL_VALUES,
    zero=event.ZERO,
    name_column=False,
)
CRDS: Final = ResourceType(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "customresourcedefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    columns=(
        Column("Scope", "string", ("spec", "scope")),
        Column("Versions", "string", ("spec", "versions"), show=_version_names),
        Column("Created At", "string", ("metadata", "creationTimestamp")),
    ),
)
BUILTIN: Final = (LEASES, NAMESPACES, EVENTS, CRDS, *rbac.KINDS, rbac.SELF_REVIEW)

_GO_STRUCTS: Final = {"metadata": "ObjectMeta", "spec": "LeaseSpec"} | event.GO_STRUCTS


class DecodeError(ValueError):
    """What the Go decoder would say."""


def decode(resource: ResourceType, body: Json) -> None:
    """Brings a built-in object into the form the server stores, in place.  Raises DecodeError on a wrong type."""
    _drop_nulls(body)
    _check_types(resource.schema or {"type": "object", "properties": _TOP, **_ANYTHING}, body, resource.kind, ())
    if resource.key == LEASES.key:
        spec = body.setdefault("spec", {})
        try:
            spec |= {name: microtime.canonical(spec[name]) for name in ("acquireTime", "renewTime") if name in spec}
        except ValueError as error:
            raise DecodeError(str(error)) from error
        # CoordinatedLeaderElection is off by default, also in 1.37: the server drops both fields silently.
        spec.pop("strategy", None)
        spec.pop("preferredHolder", None)
    elif resource.key == EVENTS.key:
        try:
            event.complete(body)
        except ValueError as error:
            raise DecodeError(str(error)) from error


def decode_meta(body: Json) -> None:
    """The same for the metadata alone, which is typed in custom resources too."""
    meta = body.get("metadata")
    if meta is None:
        body["metadata"] = {}
        return
    if isinstance(meta, dict):
        _drop_nulls(meta)
    _check_types(META_SCHEMA, meta, "ObjectMeta", ())
    # Go leaves out what is empty; an empty managedFields says something, and is dealt with later.
    for name in [name for name, value in meta.items() if value in ("", {}, []) and name != "managedFields"]:
        del meta[name]


def validate(resource: ResourceType, body: Json) -> Iterator[Cause]:
    """What the server checks of a built-in object beside its metadata."""
    if resource.key == LEASES.key:
        yield from _validate_lease(body)
    elif resource.key == EVENTS.key:
        yield from event.validate(body)


def _validate_lease(lease: Json) -> Iterator[Cause]:
    spec = lease.get("spec", {})
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        message = f"Invalid value: {duration}: must be greater than 0"
        yield Cause("FieldValueInvalid", "spec.leaseDurationSeconds", message)
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        message = f"Invalid value: {transitions}: must be greater than or equal to 0"
        yield Cause("FieldValueInvalid", "spec.leaseTransitions", message)


def _check_types(schema: Json, value: Any, struct: str, path: tuple[str, ...]) -> None:
    """Raises DecodeError at the first value that does not fit into its Go field."""
    wanted = schema.get("type")
    if wanted is None:
        return
    if wanted == "integer" and isinstance(value, int | float) and not isinstance(value, bool):
        bits = 31 if schema.get("format") == "int32" else 63
        if value != int(value) or not -(2**bits) <= value < 2**bits:
            raise _cannot_unmarshal(f"number {value}", schema, struct, path)
        return
    if next(validate_schema({"type": wanted}, value), None) is not None:
        raise _cannot_unmarshal(_go_name(value), schema, struct, path)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name, item in value.items():
            if name in properties:
                inner = _GO_STRUCTS.get(name, struct) if not path else struct
                _check_types(properties[name], item, inner, (*path, name))
            elif isinstance(schema.get("additionalProperties"), dict):
                _check_types(schema["additionalProperties"], item, struct, path)
    elif isinstance(value, list):
        for item in value:
            _check_types(schema["items"], item, struct, path)


def _cannot_unmarshal(given: str, schema: Json, struct: str, path: tuple[str, ...]) -> DecodeError:
    wanted = schema.get("format", schema["type"]) if schema["type"] == "integer" else schema["type"]
    wanted = event.GO_OBJECTS.get(path[-1], wanted) if path else wanted
    where = f"Go struct field {struct}.{'.'.join(path)}" if path else "Go value"
    return DecodeError(f"json: cannot unmarshal {given} into {where} of type {wanted}")


def _go_name(value: Any) -> str:
    return {"integer": "number", "boolean": "bool"}.get(type_name(value), type_name(value))


def _drop_nulls(body: Json) -> None:
    """null is Go's zero value: the field is as if absent."""
    for name in [name for name, value in body.items() if value is None]:
        del body[name]
    for value in body.values():
        if isinstance(value, dict):
            _drop_nulls(value)
