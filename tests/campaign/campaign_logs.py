"""What the sidecars' logs say of a campaign: lines of ERROR and worse that no fault of it explains.

Pure but for reading.  Each line is a JSON object (docs/logs.md); what is none was cut short by a SIGKILL.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SEVERE: Final = frozenset({"ERROR", "CRITICAL"})
SCRIPT: Final = "script:"
FULL: Final = "RUN_DIR is full"
STARVED: Final = "the machine is busy"
"""Stands for a kind of fault where processes had to wait for a processor: a node does not obey in time then, either."""
NODE: Final = (STARVED, "deaf", "SIGSTOP of the node", "long to reload", "metrics", SCRIPT)
SECRETS: Final = ("secret", "rotated", "target link", SCRIPT)
EXPECTED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "actuator_lost": ("its container ends when it cannot be kept alive", ("of the actuator", FULL, SCRIPT)),
    "credential_finding": ("secrets were spoilt, or changed one file after another", SECRETS),
    "credential_operation": (
        "a set could not be taken from a secret that was spoilt, or not be written down",
        (*SECRETS, FULL),
    ),
    "no_socket": ("a worker's next life cannot even write down that it is there", (FULL,)),
    "release_abandoned": ("no API server took it when a sidecar was to stop: the lease runs out", ("",)),
    "signal": ("a node that does not obey, or does not tell, is ended", NODE),
    "worker_fault": ("a worker that cannot write down what it must not forget ends", (FULL,)),
    "unfenced_at_exit": ("the node did not obey when its sidecar was to stop", NODE),
}
"""Event -> why a campaign may see it at ERROR or worse, and beside which faults: a word of their kinds' names."""


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

    def unexpected(self, kinds: Iterable[str]) -> list[Line]:
        """Since the last call, beside faults of these kinds."""
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
        return unexpected(self.pod, found, tuple(kinds))


def parsed(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Those that are lines of a log."""
    for text in lines:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("level"), str) and isinstance(line.get("event"), str):
            yield line


def unexpected(pod: str, lines: Iterable[dict[str, Any]], kinds: Sequence[str]) -> list[Line]:
    """Of these lines, in order, what none of these faults explains."""
    return [
        Line(
            pod,
            str(line.get("time", "")),
            str(line.get("worker", "")),
            line["event"],
            (str(line.get("message", "")) + (" " + str(line["trace"]) if line.get("trace") else ""))[:2000],
        )
        for line in lines
        if line["level"] in SEVERE and not explained(line["event"], kinds)
    ]


def explained(event: str, kinds: Sequence[str]) -> bool:
    """Whether one of these faults may cause it."""
    _, words = EXPECTED.get(event, ("", ()))
    return any(word in kind for word in words for kind in kinds)
