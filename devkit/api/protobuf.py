"""Reads request bodies in Kubernetes' protobuf envelope: kubectl and client-go send built-in kinds so.

Only reading: every such client takes JSON for an answer.  Field numbers are those of the generated.proto files in
k8s.io/api and k8s.io/apimachinery; numbers not named here are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from devkit.api.kinds import ResourceType

Json = dict[str, Any]

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIXTY_FOUR: Final = 64


class ProtobufError(ValueError):
    """The bytes are no such message."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: Any
    """"text", "int", "bool", "time", "micro", "map", or the table of a message."""
    repeated: bool = False


_Message = dict[int, _Field]


def _texts(*names: str) -> _Message:
    return {number: _Field(name, "text") for number, name in enumerate(names, 1)}


_META: Final[_Message] = _texts("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion") | {
    7: _Field("generation", "int"),
    8: _Field("creationTimestamp", "time"),
    9: _Field("deletionTimestamp", "time"),
    10: _Field("deletionGracePeriodSeconds", "int"),
    11: _Field("labels", "map"),
    12: _Field("annotations", "map"),
    14: _Field("finalizers", "text", repeated=True),
}
_LEASE_SPEC: Final[_Message] = {
    1: _Field("holderIdentity", "text"),
    2: _Field("leaseDurationSeconds", "int"),
    3: _Field("acquireTime", "micro"),
    4: _Field("renewTime", "micro"),
    5: _Field("leaseTransitions", "int"),
    6: _Field("strategy", "text"),
    7: _Field("preferredHolder", "text"),
}
_REFERENCE: Final = _texts("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT: Final[_Message] = {
    1: _Field("metadata", _META),
    2: _Field("involvedObject", _REFERENCE),
    3: _Field("reason", "text"),
    4: _Field("message", "text"),
    5: _Field("source", _texts("component", "host")),
    6: _Field("firstTimestamp", "time"),
    7: _Field("lastTimestamp", "time"),
    8: _Field("count", "int"),
    9: _Field("type", "text"),
    10: _Field("eventTime", "micro"),
    11: _Field("series", {1: _Field("count", "int"), 2: _Field("lastObservedTime", "micro")}),
    12: _Field("action", "text"),
    13: _Field("related", _REFERENCE),
    14: _Field("reportingComponent", "text"),
    15: _Field("reportingInstance", "text"),
}
_KINDS: Final[dict[str, _Message]] = {
    "Lease": {1: _Field("metadata", _META), 2: _Field("spec", _LEASE_SPEC)},
    "Namespace": {1: _Field("metadata", _META)},
    "Event": _EVENT,
    "DeleteOptions": {
        1: _Field("gracePeriodSeconds", "int"),
        2: _Field("preconditions", _texts("uid", "resourceVersion")),
        4: _Field("propagationPolicy", "text"),
        5: _Field("dryRun", "text", repeated=True),
    },
}
_TYPE_META: Final = _texts("apiVersion", "kind")


def readable(resource: ResourceType) -> bool:
    """Whether bodies of that kind can be read."""
    return not resource.custom and resource.kind in _KINDS


def decode(data: bytes) -> Json:
    """The object in the envelope, with its apiVersion and kind.  Raises ProtobufError."""
    if not data.startswith(_MAGIC):
        raise ProtobufError("the envelope's magic number is missing")
    type_meta: Json = {}
    raw = b""
    for number, value in _fields(data[len(_MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            type_meta = _message(_TYPE_META, value)
        elif number == 2 and isinstance(value, bytes):
            raw = value
    table = _KINDS.get(type_meta.get("kind", ""))
    if table is None:
        raise ProtobufError(f"no kind {type_meta.get('kind', '')!r} is known here")
    return {**type_meta, **_message(table, raw)}


def _message(table: _Message, data: bytes) -> Json:
    found: Json = {}
    for number, value in _fields(data):
        field = table.get(number)
        if field is None:
            continue
        if field.kind == "map":
            entry = _message(_texts("key", "value"), _expect_bytes(value))
            found.setdefault(field.name, {})[entry.get("key", "")] = entry.get("value", "")
        elif field.repeated:
            found.setdefault(field.name, []).append(_value(field.kind, value))
        else:
            found[field.name] = _value(field.kind, value)
    # A zero time, an empty string: Go's zero values, which its JSON leaves out.
    return {name: value for name, value in found.items() if value is not None}


def _value(kind: Any, value: int | bytes) -> Any:
    if isinstance(kind, dict):
        return _message(kind, _expect_bytes(value))
    if kind in {"int", "bool"}:
        if not isinstance(value, int):
            raise ProtobufError("a number was expected")
        if kind == "bool":
            return bool(value)
        return value - (1 << _SIXTY_FOUR) if value >> (_SIXTY_FOUR - 1) else value
    data = _expect_bytes(value)
    if kind == "text":
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ProtobufError("text is not UTF-8") from error
    return _time(data, "microseconds" if kind == "micro" else "seconds")


def _time(data: bytes, precision: str) -> str | None:
    parts = {number: value for number, value in _fields(data) if isinstance(value, int)}
    if not parts:
        return None
    seconds = _value("int", parts.get(1, 0))
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=parts.get(2, 0) // 1000)
    except OverflowError as error:
        raise ProtobufError("a time is out of range") from error
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _expect_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("bytes were expected")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and their values, in order."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in {_FIXED64, _FIXED32}:
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ProtobufError(f"unknown wire type {wire}")
        if at + length > len(data):
            raise ProtobufError("the message is cut short")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < _SIXTY_FOUR:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & ((1 << _SIXTY_FOUR) - 1), at
        shift += 7
    raise ProtobufError("a number is cut short")
