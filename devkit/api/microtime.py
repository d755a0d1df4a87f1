"""Times as Go reads and writes them.

MicroTime is the one form of time a Lease takes, RFC 3339 with exactly six digits of a second's fraction; Time (an
Event's) is RFC 3339 with any, and is kept in whole seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_LAYOUT: Final = "2006-01-02T15:04:05.000000Z07:00"
_SECONDS_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"
_ELEMENTS: Final = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\d{4}", "2006"),
        ("-", "-"),
        (r"\d{2}", "01"),
        ("-", "-"),
        (r"\d{2}", "02"),
        ("T", "T"),
        (r"\d{2}", "15"),
        (":", ":"),
        (r"\d{2}", "04"),
        (":", ":"),
        (r"\d{2}", "05"),
        (r"\.\d{6}", ".000000"),
        (r"(Z|[+-]\d{2}:\d{2})$", "Z07:00"),
    )
]
"""The layout cut as Go's time.Parse cuts it: it names the element it stumbled over."""
_SECONDS_ELEMENTS: Final = [
    (re.compile(r"([.,]\d+)?") if name == ".000000" else pattern, name) for pattern, name in _ELEMENTS
]
"""Go takes a fraction of any length where the layout has none."""


def canonical(text: str) -> str:
    """A MicroTime as the server writes it back: UTC, `Z`.  ValueError in the words of the real server."""
    return _parsed(text, _LAYOUT, _ELEMENTS).isoformat(timespec="microseconds").replace("+00:00", "Z")


def canonical_seconds(text: str) -> str:
    """The same for a Time."""
    return _parsed(text, _SECONDS_LAYOUT, _SECONDS_ELEMENTS).isoformat(timespec="seconds").replace("+00:00", "Z")


def _parsed(text: str, layout: str, elements: list[tuple[re.Pattern[str], str]]) -> datetime:
    rest = text
    for pattern, name in elements:
        matched = pattern.match(rest)
        if matched is None:
            raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{name}"')
        rest = rest[matched.end() :]
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        part = str(error).split(" ", 1)[0]
        raise ValueError(f'parsing time "{text}": {part} out of range') from error
