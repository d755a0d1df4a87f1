"""Sets of fields, and what can be done to objects with them: the merging of server-side apply.

A field is a path of elements as `fieldsV1` writes them (f:NAME, k:{KEYS}, v:VALUE); a set is a set of such paths.  The
rules are those of sigs.k8s.io/structured-merge-diff, which the real server uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from devkit.api.shapes import ANY, Shape, resolved

Json = dict[str, Any]
Path = tuple[str, ...]
Fields = frozenset[Path]

_KINDS: Final = ("f:", "k:", "v:", "i:")


class _Absent:
    """Stands for a value that is not there; null is one that is."""


_ABSENT: Final = _Absent()


class ShapeError(ValueError):
    """An object that does not have its kind's form; one line an error."""


# --- writing sets ---


def decode(fields_v1: Any) -> Fields:
    """ValueError when it is no fieldsV1."""
    found: set[Path] = set()
    _decode(fields_v1, (), found)
    return frozenset(found)


def _decode(node: Any, path: Path, found: set[Path]) -> None:
    if not isinstance(node, dict):
        raise ValueError("no fieldsV1: an object is expected")  # noqa: TRY004 (the caller's JSON, not its type)
    if not node and path:
        found.add(path)
    for element, inner in node.items():
        if element == ".":
            found.add(path)
        elif element[:2] in _KINDS:
            _decode(inner, (*path, element), found)
        else:
            raise ValueError(f"no fieldsV1: {element}")


def encode(fields: Iterable[Path]) -> Json:
    """The same as fieldsV1."""
    root: Json = {}
    # A path comes before those below it, so that it is known to be one of the set when they are added.
    for path in sorted(fields):
        node = root
        for element in path[:-1]:
            inner = node.get(element)
            if inner is None:
                inner = node[element] = {}
            elif not inner:
                inner["."] = {}
            node = inner
        node[path[-1]] = {}
    return root


def shown(path: Path) -> str:
    """As a message names it: .spec.priority, .status.conditions[type="A"]."""
    return "".join(_shown(element) for element in path)


def _shown(element: str) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "k:":
        return "[" + ",".join(f"{name}={_compact(value)}" for name, value in json.loads(rest).items()) + "]"
    return f"[={rest}]" if kind == "v:" else f"[{rest}]"


def in_order(fields: Iterable[Path]) -> list[Path]:
    """At each level the members before what lies below."""
    return sorted(fields, key=lambda path: [(step < len(path) - 1, element) for step, element in enumerate(path)])


def without(fields: Fields, above: Iterable[str]) -> Fields:
    """The set without what lies in those top fields."""
    gone = {f"f:{name}" for name in above}
    return frozenset(path for path in fields if path[0] not in gone) if gone else fields


# --- comparing ---


@dataclass(slots=True)
class Comparison:
    """What a new state adds, changes and removes."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)

    def filtered(self, above: Iterable[str]) -> Comparison:
        """Without what lies in those top fields."""
        names = tuple(above)
        sets = (set(without(frozenset(found), names)) for found in (self.added, self.modified, self.removed))
        return Comparison(*sets)


def compare(shape: Shape, old: Json, new: Json) -> Comparison:
    """From the old to the new."""
    found = Comparison()
    _compare_maps(shape, old, new, (), found)
    return found


def _compare(shape: Shape, old: Any, new: Any, path: Path, found: Comparison) -> None:
    if _same(old, new):
        return
    if shape.kind == "any":
        shape = _compared_any(old, new, path, found)
    if _is_leaf(shape, old, new):
        _leaf(old, new, path, found)
        return
    if shape.kind == "map":
        _compare_maps(shape, _map(old), _map(new), path, found)
    else:
        assert shape.element is not None
        before, after = _items(shape, old), _items(shape, new)
        for element in before.keys() | after.keys():
            was, now = before.get(element, _ABSENT), after.get(element, _ABSENT)
            _compare(shape.element, was, now, (*path, element), found)
    if old is _ABSENT:
        found.added.add(path)
    elif new is _ABSENT:
        found.removed.add(path)


def _same(old: Any, new: Any) -> bool:
    # True is not 1 here.
    return old is new or (old == new and type(old) is type(new))


def _compared_any(old: Any, new: Any, path: Path, found: Comparison) -> Shape:
    """The form of the new state; an old one of another form is changed, and what was in it is gone."""
    if new is _ABSENT:
        return resolved(ANY, old)
    after = resolved(ANY, new)
    if old is not _ABSENT and resolved(ANY, old).kind != after.kind:
        found.modified.add(path)
        _compare_maps(resolved(ANY, {}), _map(old), {}, path, found)
    return after


def _compare_maps(shape: Shape, old: Json, new: Json, path: Path, found: Comparison) -> None:
    for name, was in old.items():
        now = new.get(name, _ABSENT)
        if _same(was, now):
            continue  # most of an object, most of the time
        inner = shape.child(name)
        if inner is not None:
            _compare(inner, was, now, (*path, f"f:{name}"), found)
    for name, now in new.items():
        inner = shape.child(name)
        if name not in old and inner is not None:
            _compare(inner, _ABSENT, now, (*path, f"f:{name}"), found)


def _leaf(old: Any, new: Any, path: Path, found: Comparison) -> None:
    if old is _ABSENT:
        found.added.add(path)
    elif new is _ABSENT:
        found.removed.add(path)
    else:
        found.modified.add(path)


def _is_leaf(shape: Shape, old: Any, new: Any) -> bool:
    """Scalars, what is one value, and maps and lists that are empty on both sides."""
    if shape.kind in {"scalar", "atomic"}:
        return True
    return all(value is _ABSENT or not value for value in (old, new))


def _map(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _element(shape: Shape, item: Any) -> str:
    """The path element of a list's item.  ShapeError."""
    if shape.kind == "set":
        return f"v:{_compact(item)}"
    if not isinstance(item, dict):
        raise ShapeError("associative list with keys may not have non-map elements")
    keys = {key: item[key] for key in sorted(shape.keys) if key in item}
    if not keys:
        names = "[" + " ".join(_compact(key) for key in shape.keys) + "]"
        raise ShapeError(
            f"associative list with keys has an element that omits all key fields {names}"
            " (and doesn't have default values for any key fields)"
        )
    return f"k:{_compact(keys)}"


def _items(shape: Shape, value: Any) -> dict[str, Any]:
    """A list by path element; of equal ones the first."""
    found: dict[str, Any] = {}
    for item in value if isinstance(value, list) else ():
        found.setdefault(_element(shape, item), item)
    return found


# --- the fields of an object ---


def fields_of(shape: Shape, body: Json) -> Fields:
    """Every field that the object sets."""
    found: set[Path] = set()
    _fields(shape, body, (), found)
    found.discard(())
    return frozenset(found)


def _fields(shape: Shape, value: Any, path: Path, found: set[Path]) -> None:
    shape = resolved(shape, value)
    if shape.kind in {"scalar", "atomic"}:
        found.add(path)
    elif shape.kind == "map":
        for name, item in _map(value).items():
            inner, here = shape.child(name), (*path, f"f:{name}")
            if inner is not None:
                _fields(inner, item, here, found)
            if item is None or item == {} or name not in shape.fields:
                found.add(here)
    else:
        assert shape.element is not None
        for element, item in _items(shape, value).items():
            _fields(shape.element, item, (*path, element), found)
            found.add((*path, element))


def with_named(shape: Shape, fields: Fields) -> Fields:
    """The set, and each declared field above one of its fields."""
    found = set(fields)
    for path in fields:
        at: Shape | None = shape
        for step, element in enumerate(path[:-1], 1):
            if at is None:
                break
            name = element[2:]
            if element.startswith("f:") and at.kind == "map":
                if name in at.fields:
                    found.add(path[:step])
                at = at.child(name)
            else:
                at = at.element
    return frozenset(found)


# --- making new objects ---


def merge(shape: Shape, old: Any, new: Any) -> Any:
    """The old with what the new sets; neither is changed, and the result shares their parts."""
    if new is _ABSENT:
        return old
    if old is _ABSENT:
        return new
    if shape.kind == "any":
        shape = resolved(shape, new)
    if _is_leaf(shape, old, new):
        return new
    if shape.kind == "map":
        before, after = _map(old), _map(new)
        merged = {
            name: merge(shape.child(name) or shape, was, after.get(name, _ABSENT)) for name, was in before.items()
        }
        return merged | {name: now for name, now in after.items() if name not in before}
    return _merge_lists(shape, old, new)


def _merge_lists(shape: Shape, old: Any, new: Any) -> list[Any]:
    """Shared items in the new order; what only one side has keeps its place before the next shared one."""
    assert shape.element is not None
    before, after = _items(shape, old), _items(shape, new)
    left, right = list(before), list(after)
    shared = iter([element for element in right if element in before])
    wanted = next(shared, None)
    done: set[str] = set()
    merged: list[Any] = []
    at_left = at_right = 0
    while at_left < len(left) or at_right < len(right):
        if at_left < len(left):
            element = left[at_left]
            if element not in after:
                merged.append(before[element])
                at_left += 1
                continue
            # A shared item comes where the new order has it.
            if element in done or (wanted is not None and element != wanted):
                at_left += 1
                continue
            if right[at_right : at_right + 1] == [element]:
                at_left += 1
        if at_right < len(right):
            element = right[at_right]
            merged.append(merge(shape.element, before.get(element, _ABSENT), after[element]))
            done.add(element)
            at_right += 1
            if element == wanted:
                wanted = next(shared, None)
    return merged


def remove(shape: Shape, body: Json, fields: Fields) -> Json:
    """The object without those fields; it is not changed itself."""
    prefixes = {path[:step] for path in fields for step in range(1, len(path))}
    kept: Json = _removed(shape, body, (), fields, prefixes)
    return kept


def _removed(shape: Shape, value: Any, path: Path, fields: Fields, prefixes: set[Path]) -> Any:
    shape = resolved(shape, value)
    if shape.kind == "map" and isinstance(value, dict):
        kept: Json = {}
        for name, item in value.items():
            here = (*path, f"f:{name}")
            if here not in fields:
                inner = shape.child(name)
                touched = inner is not None and here in prefixes
                kept[name] = _removed(inner, item, here, fields, prefixes) if inner and touched else item
        return kept or None
    if shape.kind in {"keyed", "set"} and isinstance(value, list) and shape.element is not None:
        items = [((*path, _element(shape, item)), item) for item in value]
        return [_removed(shape.element, item, at, fields, prefixes) for at, item in items if at not in fields] or None
    return value


# --- whether an object has its form ---


def check(shape: Shape, body: Json) -> None:
    """ShapeError with every fault, worded as the real server words them."""
    faults = list(_faults(shape, body, ""))
    if faults:
        raise ShapeError(faults[0] if len(faults) == 1 else "\n  ".join(("errors:", *faults)))


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is None:
        return
    if shape.kind == "map":
        if not isinstance(value, dict):
            yield f"{path}: expected map, got {_go_value(value)}"
            return
        for name, item in value.items():
            inner = shape.child(name)
            if inner is None:
                yield f"{path}.{name}: field not declared in schema"
            else:
                yield from _faults(inner, item, f"{path}.{name}")
    elif shape.kind in {"keyed", "set"}:
        yield from _list_faults(shape, value, path)
    elif shape.kind == "scalar":
        yield from _scalar_faults(shape, value, path)


def _list_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    assert shape.element is not None
    if not isinstance(value, list):
        yield f"{path}: expected list, got {_go_value(value)}"
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        try:
            element = _element(shape, item)
        except ShapeError as fault:
            yield f"{path}: element {index}: {fault}"
            return
        if element in seen:
            yield f"{path}: duplicate entries for key {_shown(element)}"
        seen.add(element)
        yield from _faults(shape.element, item, f"{path}{_shown(element)}")


def _scalar_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    is_bool = isinstance(value, bool)
    if shape.scalar == "numeric" and (is_bool or not isinstance(value, int | float)):
        yield f"{path}: expected numeric (int or float), got {_GO_TYPES.get(type(value), 'string')}"
    elif shape.scalar == "string" and not isinstance(value, str):
        yield f"{path}: expected string, got {_go_value(value)}"
    elif shape.scalar == "boolean" and not is_bool:
        yield f"{path}: expected boolean, got {value}"


_GO_TYPES: Final[dict[type, str]] = {
    bool: "bool",
    str: "string",
    dict: "map[string]interface {}",
    list: "[]interface {}",
}


def _go_value(value: Any) -> str:
    return f"&value.valueUnstructured{{Value:{_compact(value)}}}"
