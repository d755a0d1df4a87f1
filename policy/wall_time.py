"""Instants of the wall clock in words.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_LAST_S: Final = 253402300799.0
"""The end of the year 9999, after which RFC 3339 has no words."""


def rfc3339(wall_s: float) -> str:
    """Unix seconds in UTC, to the second; fractions where there are any.

    Raises ValueError, OverflowError outside of the years 1 to 9999.
    """
    instant = datetime.fromtimestamp(wall_s, UTC)
    return instant.isoformat(timespec="microseconds" if instant.microsecond else "seconds").replace("+00:00", "Z")


def shown(wall_s: float) -> str:
    """The same of any number, to the millisecond: what is before 1970 or after 9999 is taken for their bounds."""
    return rfc3339(round(min(max(wall_s, 0.0), _LAST_S), 3))
