"""Structural schemas (OpenAPI v3 as CustomResourceDefinitions use it): prune, default, validate.

Objects are changed in place by `prune` and `apply_defaults`; `validate` only looks.  The wording of the findings is
that of the real API server, so that tools which match on it behave the same.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from devkit.api.errors import Cause

Json = dict[str, Any]

_KEEP_UNKNOWN: Final = "x-kubernetes-preserve-unknown-fields"
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([0-9]{2}:[0-9]{2}:[0-9]{2})([.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE
)
_RANGES: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def prune(schema: Json, value: Any, path: str = "") -> list[str]:
    """Removes what the schema does not name; returns the paths removed, such as spec.typo."""
    removed: list[str] = []
    if isinstance(value, dict):
        properties: Json = schema.get("properties", {})
        additional = schema.get("additionalProperties")
        for name in list(value):
            here = f"{path}.{name}" if path else name
            if name in properties:
                removed += prune(properties[name], value[name], here)
            elif isinstance(additional, dict):
                removed += prune(additional, value[name], here)
            elif not (additional or schema.get(_KEEP_UNKNOWN)):
                del value[name]
                removed.append(here)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            removed += prune(schema["items"], item, f"{path}[{index}]")
    return removed


def apply_defaults(schema: Json, value: Any, *, keep_nulls: bool = False) -> None:
    """Removes each null that may not be null, then fills absent fields that have a default.

    keep_nulls: a null without a default stays, to be found wrong (server-side apply takes none).
    """
    if isinstance(value, dict):
        properties: Json = schema.get("properties", {})
        additional = schema.get("additionalProperties")
        for name in [name for name, item in value.items() if item is None]:
            inner = properties.get(name, {"nullable": True})
            if not inner.get("nullable", False) and (not keep_nulls or "default" in inner):
                del value[name]
        for name, inner in properties.items():
            if "default" in inner and name not in value:
                value[name] = copy.deepcopy(inner["default"])
            if name in value:
                apply_defaults(inner, value[name], keep_nulls=keep_nulls)
        if isinstance(additional, dict):
            for name, item in value.items():
                if name not in properties:
                    apply_defaults(additional, item, keep_nulls=keep_nulls)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            apply_defaults(schema["items"], item, keep_nulls=keep_nulls)


def validate(schema: Json, value: Any, path: str = "") -> Iterator[Cause]:
    """Every finding, in the order of the object."""
    if value is None and schema.get("nullable"):
        return
    wanted = schema.get("type")
    if wanted is not None and not _is_a(wanted, value):
        yield _wrong_type(path, wanted, value)
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(json.dumps(choice) for choice in schema["enum"])
        yield Cause(
            "FieldValueNotSupported", path, f"Unsupported value: {_shown(value)}: supported values: {supported}"
        )
    if isinstance(value, dict):
        yield from _validate_object(schema, value, path)
    elif isinstance(value, list):
        yield from _validate_array(schema, value, path)
    elif isinstance(value, str):
        yield from _validate_string(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _validate_number(schema, value, path)


def _validate_object(schema: Json, value: Json, path: str) -> Iterator[Cause]:
    properties: Json = schema.get("properties", {})
    additional = schema.get("additionalProperties")
    most = schema.get("maxProperties")
    if most is not None and len(value) > most:
        yield Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
    for name in schema.get("required", []):
        if name not in value:
            yield Cause("FieldValueRequired", f"{path}.{name}" if path else name, "Required value")
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        if name in properties:
            yield from validate(properties[name], item, here)
        elif isinstance(additional, dict):
            yield from validate(additional, item, here)


def _validate_array(schema: Json, value: list[Any], path: str) -> Iterator[Cause]:
    most = schema.get("maxItems")
    if most is not None and len(value) > most:
        yield Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
    least = schema.get("minItems")
    if least is not None and len(value) < least:
        yield Cause("FieldValueInvalid", path, f"Invalid value: {len(value)}: must have at least {least} items")
    keys = schema.get("x-kubernetes-list-map-keys", [])
    seen: set[str] = set()
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        if isinstance(schema.get("items"), dict):
            yield from validate(schema["items"], item, here)
        if keys and isinstance(item, dict):
            identity = json.dumps({key: item.get(key) for key in keys}, separators=(",", ":"))
            if identity in seen:
                yield Cause("FieldValueDuplicate", here, f"Duplicate value: {identity}")
            seen.add(identity)


def _validate_string(schema: Json, value: str, path: str) -> Iterator[Cause]:
    most, least = schema.get("maxLength"), schema.get("minLength")
    if most is not None and len(value) > most:
        yield Cause("FieldValueTooLong", path, f"Too long: may not be more than {most} bytes")
    if least is not None and len(value) < least:
        said = f"{path} in body should be at least {least} chars long"
        yield Cause("FieldValueInvalid", path, f"Invalid value: {_shown(value)}: {said}")
    pattern = schema.get("pattern")
    if pattern is not None and (not re.search(pattern, value) or value.endswith("\n")):
        said = f"{path} in body should match '{pattern}'"
        yield Cause("FieldValueInvalid", path, f"Invalid value: {_shown(value)}: {said}")
    if schema.get("format") == "date-time" and not is_date_time(value):
        said = f"{path} in body must be of type date-time: {_shown(value)}"
        yield Cause("FieldValueTypeInvalid", path, f"Invalid value: {_shown(value)}: {said}")


def _validate_number(schema: Json, value: float, path: str) -> Iterator[Cause]:
    bounds = _RANGES.get(schema.get("format", "")) if schema.get("type") == "integer" else None
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        said = f"{path} in body must be of type {schema['format']}: {_shown(value)}"
        yield Cause("FieldValueInvalid", path, f"Invalid value: {_shown(value)}: {said}")
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and value < least:
        said = f"{path} in body should be greater than or equal to {least}"
        yield Cause("FieldValueInvalid", path, f"Invalid value: {_shown(value)}: {said}")
    if most is not None and value > most:
        said = f"{path} in body should be less than or equal to {most}"
        yield Cause("FieldValueInvalid", path, f"Invalid value: {_shown(value)}: {said}")


def is_date_time(text: str) -> bool:
    """RFC 3339, as the `date-time` format has it."""
    matched = _DATE_TIME.fullmatch(text)
    if matched is None:
        return False
    try:
        datetime.strptime(f"{text[:10]} {matched[1]}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 (only its form counts)
    except ValueError:
        return False
    return True


def _is_a(wanted: str, value: Any) -> bool:
    if wanted == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if wanted == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    python: type = {"object": dict, "array": list, "string": str, "boolean": bool}[wanted]
    return isinstance(value, python)


def type_name(value: Any) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "string"


def _wrong_type(path: str, wanted: str, value: Any) -> Cause:
    given = type_name(value)
    said = f'Invalid value: "{given}": {path} in body must be of type {wanted}: "{given}"'
    return Cause("FieldValueTypeInvalid", path, said)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
