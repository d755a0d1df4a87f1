"""The built-in kinds: Lease, Namespace, Event, CustomResourceDefinition; and what every object's metadata may hold.

A built-in kind is decoded into a Go struct on the real server.  That has two effects which a schema alone has not:
a wrong type is a decoding error (400) and no validation finding (422), and times are written back in one form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from devkit.api.errors import Cause
from devkit.api.kinds import Column, ResourceType, dig
from devkit.api.schema import type_name, validate

Json = dict[str, Any]

_STRING: Final[Json] = {"type": "string"}
_STRINGS: Final[Json] = {"type": "object", "additionalProperties": _STRING}
_INT32: Final[Json] = {"type": "integer", "format": "int32"}
_INT64: Final[Json] = {"type": "integer", "format": "int64"}
_ANYTHING: Final[Json] = {"x-kubernetes-preserve-unknown-fields": True}
_MICRO_TIME: Final[Json] = {"type": "string", "format": "micro-time"}

META_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "name": _STRING,
        "generateName": _STRING,
        "namespace": _STRING,
        "selfLink": _STRING,
        "uid": _STRING,
        "resourceVersion": _STRING,
        "generation": _INT64,
        "creationTimestamp": _STRING,
        "deletionTimestamp": _STRING,
        "deletionGracePeriodSeconds": _INT64,
        "labels": _STRINGS,
        "annotations": _STRINGS,
        "ownerReferences": {"type": "array", "items": {"type": "object", **_ANYTHING}},
        "finalizers": {"type": "array", "items": _STRING},
        "managedFields": {"type": "array", "items": {"type": "object", **_ANYTHING}},
    },
}

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

_AGE: Final = Column("Age", "date", ("metadata", "creationTimestamp"), description="Time since it was created.")

LEASES: Final = ResourceType(
    "coordination.k8s.io",
    "v1",
    "Lease",
    "leases",
    "lease",
    create_on_update=True,
    schema=LEASE_SCHEMA,
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
    columns=(
        Column("Last Seen", "date", ("lastTimestamp",)),
        Column("Type", "string", ("type",)),
        Column("Reason", "string", ("reason",)),
        Column("Object", "string", ("involvedObject", "name")),
        Column("Message", "string", ("message",)),
    ),
    field_labels=(
        *(f"involvedObject.{part}" for part in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")),
        *("involvedObject.resourceVersion", "reason", "reportingComponent", "source", "type"),
    ),
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
    columns=(Column("Created At", "date", ("metadata", "creationTimestamp")),),
)
BUILTIN: Final = (LEASES, NAMESPACES, EVENTS, CRDS)

_MICRO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_MICRO_LAYOUT: Final = "2006-01-02T15:04:05.000000Z07:00"
_GO_TYPES: Final = {"string": "string", "object": "struct", "array": "slice"}


class DecodeError(ValueError):
    """What the Go decoder would say."""


def decode(resource: ResourceType, body: Json) -> None:
    """Brings a built-in object into the form the server stores, in place.  Raises DecodeError on a wrong type."""
    _drop_nulls(body)
    for cause in validate(resource.schema or {"type": "object", "properties": _TOP, **_ANYTHING}, body):
        given = type_name(dig(body, tuple(cause.field.split("."))))
        wanted = "int32" if "int32" in cause.message or "integer" in cause.message else "string"
        struct = f"{resource.kind}{cause.field.split('.')[0].capitalize()}"
        raise DecodeError(
            f"json: cannot unmarshal {given} into Go struct field {struct}.{cause.field} of type {wanted}"
        )
    if resource.key == LEASES.key:
        spec = body.setdefault("spec", {})
        for field in ("acquireTime", "renewTime"):
            if field in spec:
                spec[field] = micro_time(spec[field])
        # CoordinatedLeaderElection is off by default, also in 1.37: the server drops both fields silently.
        spec.pop("strategy", None)
        spec.pop("preferredHolder", None)


def decode_meta(body: Json) -> None:
    """The same for the metadata alone, which is typed in custom resources too."""
    meta = body.get("metadata")
    if meta is None:
        body["metadata"] = {}
        return
    if isinstance(meta, dict):
        _drop_nulls(meta)
    for cause in validate(META_SCHEMA, meta, "metadata"):
        path = tuple(cause.field.split("."))
        found = type_name(dig(body, path))
        raise DecodeError(
            f"json: cannot unmarshal {found} into Go struct field ObjectMeta.{cause.field} of type string"
        )


def micro_time(text: str) -> str:
    """A MicroTime as the server writes it back: UTC, six digits.  Raises DecodeError on any other form."""
    if not _MICRO.fullmatch(text):
        raise DecodeError(f'parsing time "{text}" as "{_MICRO_LAYOUT}": cannot parse "{text}" as "{_MICRO_LAYOUT}"')
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise DecodeError(f'parsing time "{text}": {error}') from error
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def validate_lease(lease: Json) -> Iterator[Cause]:
    """What the server checks of a Lease beside its metadata."""
    spec = lease.get("spec", {})
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        message = f"Invalid value: {duration}: must be greater than 0"
        yield Cause("FieldValueInvalid", "spec.leaseDurationSeconds", message)
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        message = f"Invalid value: {transitions}: must be greater than or equal to 0"
        yield Cause("FieldValueInvalid", "spec.leaseTransitions", message)


def _drop_nulls(body: Json) -> None:
    """null is Go's zero value: the field is as if absent."""
    for name in [name for name, value in body.items() if value is None]:
        del body[name]
    for value in body.values():
        if isinstance(value, dict):
            _drop_nulls(value)
