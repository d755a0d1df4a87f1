"""Tables: what `kubectl get` prints, made by the server (`Accept: application/json;as=Table`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from devkit.api.kinds import Column, ResourceType, dig

Json = dict[str, Any]

_NAME: Final = Column("Name", "string", ("metadata", "name"), description="Name of the object.", format="name")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def table(resource: ResourceType, bodies: Sequence[Json], list_meta: Json, include: str) -> Json:
    """The objects as rows.  include: Metadata (default), Object or None, what a row carries beside its cells."""
    columns = (_NAME, *resource.columns) if resource.name_column else resource.columns
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": "string" if column.type == "date" and not resource.custom else column.type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            }
            for column in columns
        ],
        "rows": [_row(columns, body, include) for body in bodies],
    }


def _row(columns: Sequence[Column], body: Json, include: str) -> Json:
    row: Json = {"cells": [_cell(column, body) for column in columns]}
    if include == "Object":
        row["object"] = body
    elif include != "None":
        meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
        row["object"] = meta
    return row


def _cell(column: Column, body: Json) -> Any:
    if column.cell is not None:
        return column.cell(body)
    value = dig(body, column.path)
    if value is None:
        return "<unknown>" if column.type == "date" and column.path[0] == "metadata" else None
    if column.show is not None:
        return column.show(value)
    if column.type == "date":
        return since(value)
    if column.type == "string" and not isinstance(value, str):
        return str(value)
    return value


def since(text: Any) -> str:
    """How long ago, as short as kubectl says it: 5s, 3m20s, 7h, 12d."""
    try:
        then = datetime.fromisoformat(str(text))
    except ValueError:
        return "<invalid>"
    seconds = int((datetime.now(UTC) - then.astimezone(UTC)).total_seconds())
    if seconds < -1:
        return "<invalid>"
    return human_duration(max(seconds, 0))


def human_duration(seconds: int) -> str:
    """Two units while the larger is small, one after that."""
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, _MINUTE, "m", 1, "s")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, _HOUR, "h", _MINUTE, "m")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, _DAY, "d", _HOUR, "h")
    if seconds < 2 * 365 * _DAY:
        return f"{seconds // _DAY}d"
    return _two(seconds, 365 * _DAY, "y", _DAY, "d")


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large}{large_name}" + (f"{rest}{small_name}" if rest else "")
