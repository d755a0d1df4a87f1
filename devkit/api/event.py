"""Core Events: their fields, what an absent one is, the validation and the table of `kubectl get events`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Final

from devkit.api import microtime
from devkit.api.errors import Cause
from devkit.api.kinds import Column, dig
from devkit.api.objectmeta import validate_qualified_name
from devkit.api.table import since

Json = dict[str, Any]

_STRING: Final[Json] = {"type": "string"}
_INT32: Final[Json] = {"type": "integer", "format": "int32"}
_TIME: Final[Json] = {"type": "string", "format": "date-time"}
_MICRO_TIME: Final[Json] = {"type": "string", "format": "micro-time"}
_REFERENCE_PARTS: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_REFERENCE: Final[Json] = {
    "type": "object",
    "x-kubernetes-map-type": "atomic",
    "properties": dict.fromkeys(_REFERENCE_PARTS, _STRING),
}

FIELDS: Final[Json] = {
    "involvedObject": _REFERENCE,
    "reason": _STRING,
    "message": _STRING,
    "source": {"type": "object", "properties": {"component": _STRING, "host": _STRING}},
    "firstTimestamp": _TIME,
    "lastTimestamp": _TIME,
    "count": _INT32,
    "type": _STRING,
    "eventTime": _MICRO_TIME,
    "series": {"type": "object", "properties": {"count": _INT32, "lastObservedTime": _MICRO_TIME}},
    "action": _STRING,
    "related": _REFERENCE,
    "reportingComponent": _STRING,
    "reportingInstance": _STRING,
}
ZERO: Final[Json] = {
    "involvedObject": {},
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
"""What Go writes even of an empty Event."""
GO_STRUCTS: Final = {"source": "EventSource", "series": "EventSeries"}
GO_OBJECTS: Final = {
    "involvedObject": "v1.ObjectReference",
    "related": "v1.ObjectReference",
    "source": "v1.EventSource",
    "series": "v1.EventSeries",
}

FIELD_LABELS: Final = (
    *(f"involvedObject.{part}" for part in _REFERENCE_PARTS),
    *("reason", "reportingComponent", "source", "type"),
)
_MISMATCH: Final = "does not match event.namespace"
_LENGTHS: Final = {"reportingInstance": 128, "action": 128, "reason": 128, "message": 1024}


def complete(event: Json) -> None:
    """Times in the server's form and Go's zero values, in place.  ValueError for what is no time."""
    for name in ("firstTimestamp", "lastTimestamp"):
        if name in event:
            event[name] = microtime.canonical_seconds(event[name])
    for holder, name in ((event, "eventTime"), (event.get("series"), "lastObservedTime")):
        if holder and name in holder:
            holder[name] = microtime.canonical(holder[name])
    for name, value in ZERO.items():
        event.setdefault(name, copy.copy(value))
    if "series" in event:
        event["series"].setdefault("lastObservedTime", None)
    for name in ("reason", "message", "type", "action", "count"):
        if event.get(name) in ("", 0):
            del event[name]


def validate(event: Json) -> Iterator[Cause]:
    """What the server checks of an Event that comes by the core group."""
    namespace, about = event["metadata"].get("namespace", ""), event["involvedObject"].get("namespace", "")
    where = "involvedObject.namespace"
    if event["eventTime"] is None:
        if (about or "default") != namespace:
            yield Cause("FieldValueInvalid", where, f'Invalid value: "{about}": {_MISMATCH}')
        return
    if not about and namespace not in {"default", "kube-system"}:
        yield Cause("FieldValueInvalid", where, f'Invalid value: "": {_MISMATCH}')
    if not event["reportingComponent"]:
        yield Cause("FieldValueRequired", "reportingComponent", "Required value")
    yield from validate_qualified_name("reportingComponent", event["reportingComponent"])
    for name, most in _LENGTHS.items():
        value = event.get(name, "")
        if not value and name != "message":
            yield Cause("FieldValueRequired", name, "Required value")
        if len(value.encode()) > most:
            yield Cause("FieldValueInvalid", name, f'Invalid value: "": can have at most {most} characters')


def _source(event: Json) -> str:
    return str(dig(event, ("source", "component")) or event.get("reportingComponent") or "")


def _shown_source(event: Json) -> str:
    host = dig(event, ("source", "host")) or event.get("reportingInstance")
    return f"{_source(event)}, {host}" if host else _source(event)


def _first_seen(event: Json) -> str:
    seen = event.get("firstTimestamp") or event.get("eventTime")
    return since(seen) if seen else "<unknown>"


def _last_seen(event: Json) -> str:
    series = event.get("series")
    if series is not None:
        return since(series["lastObservedTime"]) if series["lastObservedTime"] else "<unknown>"
    return since(event["lastTimestamp"]) if event.get("lastTimestamp") else _first_seen(event)


def _count(event: Json) -> int:
    series = event.get("series")
    return int(series.get("count", 0) if series is not None else event.get("count") or 1)


def _object(event: Json) -> str:
    about = event["involvedObject"]
    kind = about.get("kind", "").lower()
    return f"{kind}/{about['name']}" if about.get("name") else kind


def _text(*path: str) -> Callable[[Json], str]:
    return lambda event: str(dig(event, path) or "").strip()


LABEL_VALUES: Final[dict[str, Callable[[Json], str]]] = {"source": _source}
COLUMNS: Final = (
    Column("Last Seen", "string", (), cell=_last_seen),
    Column("Type", "string", (), cell=_text("type")),
    Column("Reason", "string", (), cell=_text("reason")),
    Column("Object", "string", (), cell=_object),
    Column("Subobject", "string", (), priority=1, cell=_text("involvedObject", "fieldPath")),
    Column("Source", "string", (), priority=1, cell=_shown_source),
    Column("Message", "string", (), cell=_text("message")),
    Column("First Seen", "string", (), priority=1, cell=_first_seen),
    Column("Count", "string", (), priority=1, cell=_count),
    Column("Name", "string", (), priority=1, format="name", cell=_text("metadata", "name")),
)
