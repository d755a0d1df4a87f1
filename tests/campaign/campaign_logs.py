"""What the sidecars' logs say of a campaign: lines of ERROR and worse that no fault of it explains.

Pure but for reading.  Each line is a JSON object (docs/logs.md); what is none was cut short by a SIGKILL.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SEVERE: Final = frozenset({"ERROR", "CRITICAL"})
EXPECTED: Final = {
    "actuator_lost": "a container ends when its actuator cannot be kept alive",
    "credential_finding": "secrets were spoilt on purpose",
    "credential_operation": "a set could not be taken from a secret that was spoilt on purpose",
    "release_abandoned": "the API was away when a sidecar was to stop: the lease runs out",
    "unfenced_at_exit": "a node was deaf or frozen when its sidecar was to stop",
}
"""Event -> why a campaign may see it at ERROR or worse."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that needs an explanation."""

    pod: str
    time: str
    worker: str
    event: str
    message: str

    def __str__(self) -> str:
        return f"{self.pod} {self.time} {self.worker} {self.event}: {self.message}"


@dataclass
class Reader:
    """One log that grows; each line is looked at once."""

    pod: str
    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    """Lines by `level event`, of WARNING and worse."""
    _offset: int = 0
    _rest: bytes = b""

    def unexpected(self) -> list[Line]:
        """Since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(fresh)
        whole, _, self._rest = (self._rest + fresh).rpartition(b"\n")
        found = list(parsed(whole.decode(errors="replace").split("\n")))
        self.counts.update(
            f"{each['level']} {each['event']}" for each in found if each["level"] not in ("INFO", "DEBUG")
        )
        return unexpected(self.pod, found)


def parsed(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Those that are lines of a log."""
    for text in lines:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("level"), str) and isinstance(line.get("event"), str):
            yield line


def unexpected(pod: str, lines: Iterable[dict[str, Any]]) -> list[Line]:
    """Of these lines, in order."""
    return [
        Line(
            pod,
            str(line.get("time", "")),
            str(line.get("worker", "")),
            line["event"],
            (str(line.get("message", "")) + (" " + str(line["trace"]) if line.get("trace") else ""))[:2000],
        )
        for line in lines
        if line["level"] in SEVERE and line["event"] not in EXPECTED
    ]
