"""What the client wants to be answered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from devkit.api import errors
from devkit.api.discovery import AGGREGATED

JSON: Final = "application/json"
_TAKEN: Final = ("application/json", "application/*", "*/*")
_TABLE_VERSIONS: Final = ("v1", "v1beta1")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The first of the client's formats that this server has."""

    as_table: bool = False
    aggregated: bool = False


def negotiate(accept: str) -> Wanted:
    """Reads an Accept header.  Raises ApiError (406) when there is nothing in it that can be given."""
    clauses = [clause.strip() for clause in accept.split(",") if clause.strip()] or ["*/*"]
    for clause in clauses:
        media, *given = [part.strip() for part in clause.split(";")]
        parameters = dict(part.split("=", 1) for part in given if "=" in part)
        if media not in _TAKEN:
            continue
        wanted = parameters.get("as")
        if wanted is None:
            return Wanted()
        if wanted == "Table" and parameters.get("v") in _TABLE_VERSIONS:
            return Wanted(as_table=True)
        if wanted == AGGREGATED and parameters.get("v") == "v2":
            return Wanted(aggregated=True)
    raise errors.not_acceptable([JSON, f"{JSON};stream=watch"])
