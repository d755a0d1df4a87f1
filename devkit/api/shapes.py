"""What server-side apply knows of a kind's form: which maps and lists are merged, and by which keys.

Made of a structural schema.  What a schema does not tell is taken as it comes: maps are merged, lists are one value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Json = dict[str, Any]
Kind = Literal["scalar", "atomic", "map", "keyed", "set", "any"]


@dataclass(frozen=True, slots=True)
class Shape:
    """One node of a kind's form."""

    kind: Kind
    """atomic: a list or map that has one owner as a whole; keyed: a list of objects; set: a list of scalars."""
    scalar: str = ""
    """string, numeric, boolean; empty: any."""
    fields: dict[str, Shape] = field(default_factory=dict)
    element: Shape | None = None
    """Of what `fields` does not name, or of a list; None: a map has no other fields."""
    keys: tuple[str, ...] = ()

    def child(self, name: str) -> Shape | None:
        """The form of a map's field."""
        return self.fields.get(name, self.element)


ANY: Final = Shape("any")
_ATOMIC: Final = Shape("atomic")
_STRING: Final = Shape("scalar", "string")
_NUMBER: Final = Shape("scalar", "numeric")
_STRINGS: Final = Shape("map", element=_STRING)

META: Final = Shape(
    "map",
    fields={
        **dict.fromkeys(("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion"), _STRING),
        **dict.fromkeys(("generation", "deletionGracePeriodSeconds"), _NUMBER),
        **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), _STRING),
        "labels": _STRINGS,
        "annotations": _STRINGS,
        "ownerReferences": Shape("keyed", element=_ATOMIC, keys=("uid",)),
        "finalizers": Shape("set", element=_STRING),
        "managedFields": _ATOMIC,
    },
)
_TOP: Final = {"apiVersion": _STRING, "kind": _STRING, "metadata": META}


def shape_of(schema: Json | None) -> Shape:
    """The form of a whole object."""
    if schema is None:
        return Shape("map", fields=_TOP, element=ANY)
    made = _shape(schema)
    return Shape("map", fields={**made.fields, **_TOP}, element=made.element)


def resolved(shape: Shape, value: Any) -> Shape:
    """The form of that value where the schema leaves it open."""
    if shape.kind != "any":
        return shape
    if isinstance(value, dict):
        return Shape("map", element=ANY)
    return _ATOMIC if isinstance(value, list) else Shape("scalar")


def _shape(schema: Json) -> Shape:
    match schema.get("type"):
        case "object":
            return _map(schema)
        case "array":
            return _list(schema)
        case "integer" | "number":
            return _NUMBER
        case "string" | "boolean" as kind:
            return Shape("scalar", kind)
        case _:
            return ANY


def _map(schema: Json) -> Shape:
    if schema.get("x-kubernetes-map-type") == "atomic":
        return _ATOMIC
    fields = {name: _shape(inner) for name, inner in schema.get("properties", {}).items()}
    element: Shape | None = None
    if isinstance(schema.get("additionalProperties"), dict):
        element = _shape(schema["additionalProperties"])
    elif schema.get("additionalProperties") or schema.get("x-kubernetes-preserve-unknown-fields"):
        element = ANY
    return Shape("map", fields=fields, element=element)


def _list(schema: Json) -> Shape:
    element = _shape(schema.get("items", {}))
    match schema.get("x-kubernetes-list-type"):
        case "map":
            return Shape("keyed", element=element, keys=tuple(schema["x-kubernetes-list-map-keys"]))
        case "set":
            return Shape("set", element=element)
        case _:
            return _ATOMIC
