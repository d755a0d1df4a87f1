"""States as people may see them: what was given in confidence is masked.

Workers need the headers of a health check and its whole address; whoever prints a state does not.  Everything that
shows states (forgectl, the debug sockets) gets them from here.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from ipc.messages import HealthCheck, HealthReport, State, Worker, decode_state

HIDDEN: Final = "(hidden)"

T = TypeVar("T")


def decode_shown_state(payload: bytes, worker: Worker) -> State:
    """A state of that very worker, masked.  Raises ProtocolError."""
    return masked(decode_state(payload, worker))


def masked(value: T) -> T:
    """The same message; wherever a health check stands in it, its headers' values and all but the origin are hidden."""
    found: Any = value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {}
        for field in dataclasses.fields(value):
            before = getattr(value, field.name)
            after = masked(before)
            if after is not before:
                changes[field.name] = after
        if isinstance(value, HealthCheck | HealthReport) and (shown := origin(value.endpoint)) != value.endpoint:
            changes["endpoint"] = shown
        if isinstance(value, HealthCheck) and value.headers:
            changes["headers"] = dict.fromkeys(value.headers, HIDDEN)
        found = dataclasses.replace(value, **changes) if changes else value
    elif isinstance(value, tuple):
        items = tuple(masked(item) for item in value)
        found = items if any(one is not other for one, other in zip(items, value, strict=True)) else value
    return found  # type: ignore[no-any-return]


def host_of(url: str) -> str:
    """The host of an address; empty: it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def origin(url: str) -> str:
    """Scheme, host and port of an address: paths and queries may be secret, users and passwords are.  Empty: none."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return HIDDEN
    if not host or not parts.scheme:
        return HIDDEN
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
