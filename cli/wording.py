"""Times and texts as `forgectl` says them.  Pure."""

from __future__ import annotations

import time
from typing import Any


def span(seconds: float) -> str:
    """A time for people: the two units that matter."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d"


def utc(wall_s: float) -> str:
    """Seconds since 1970 as the API writes them, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))


def text_of(status: dict[str, Any], name: str) -> str:
    """A text of a status; empty: there is none."""
    value = status.get(name)
    return value if isinstance(value, str) else ""
