"""Patches: JSON merge patch (RFC 7386) and JSON patch (RFC 6902).

A strategic merge patch of a Lease is a merge patch: the kind has no list with merge keys of its own.
"""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]


class PatchError(ValueError):
    """The patch does not fit the object."""


def merge(target: Any, patch: Any) -> Any:
    """The target with the patch applied; neither is changed.  null deletes."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def apply_json_patch(target: Json, operations: Any) -> Json:
    """The target with every operation applied in order.  Raises PatchError."""
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    document: Any = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchError("an operation is an object")
        document = _apply(document, operation)
    if not isinstance(document, dict):
        raise PatchError("the patched document is no object")
    return document


def _apply(document: Any, operation: Json) -> Any:
    kind = operation.get("op")
    path = _pointer(operation.get("path"))
    match kind:
        case "add" | "replace" if "value" not in operation:
            raise PatchError(f"{kind} needs a value")
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "replace":
            return _replace(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "test":
            if _look_up(document, path) != operation.get("value"):
                raise PatchError(f"testing value {operation.get('path')} failed")
            return document
        case "copy" | "move":
            source = _pointer(operation.get("from"))
            value = copy.deepcopy(_look_up(document, source))
            if kind == "move":
                document = _remove(document, source)
            return _add(document, path, value)
        case _:
            raise PatchError(f"unexpected kind of operation: {kind}")


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError("a path begins with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(container: list[Any], step: str, length: int) -> int:
    if not step.isdecimal() or int(step) >= length:
        raise PatchError(f"no index {step} in a list of {len(container)}")
    return int(step)


def _look_up(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(document, step, len(document))]
        else:
            raise PatchError(f"the path has no {step}")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    container = _look_up(document, path[:-1])
    if isinstance(container, dict):
        container[path[-1]] = value
    elif isinstance(container, list):
        at = len(container) if path[-1] == "-" else _index(container, path[-1], len(container) + 1)
        container.insert(at, value)
    else:
        raise PatchError("neither an object nor a list can take the value")
    return document


def _replace(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    _look_up(document, path)
    container = _look_up(document, path[:-1])
    container[int(path[-1]) if isinstance(container, list) else path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise PatchError("the whole document cannot be removed")
    _look_up(document, path)
    container = _look_up(document, path[:-1])
    del container[int(path[-1]) if isinstance(container, list) else path[-1]]
    return document
