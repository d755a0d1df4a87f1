"""What a worker knows, in a file of its own folder (`term`, if no other is named), for its next life.

Promises that a reader finds one whole version or none, and that a file which cannot be read makes a worker that starts
as a stranger, not one that fails.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from kernel.clock import boot_id
from policy.lease import LeaseRecord, Observed

T = TypeVar("T")

NAME: Final = "term"


class Notebook:
    def __init__(self, folder: Path, log: logging.Logger, name: str = NAME) -> None:
        self._path = folder / name
        self._boot = boot_id()
        self._log = log
        self._written: dict[str, Any] = {}

    def read(self, parse: Callable[[dict[str, Any], bool], T | None]) -> T | None:
        """What `parse` makes of what an earlier life kept; None if there is nothing, or nothing that can be read.

        `parse` is also told whether it was kept in this boot: instants of another one are worth nothing.  It may
        raise ValueError, TypeError, KeyError and AttributeError.
        """
        try:
            raw = json.loads(self._path.read_text(encoding="ascii"))
            return parse(raw, raw["boot"] == self._boot)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            self._log.warning("unreadable notes; starting as a stranger", extra={"event": "term_unreadable"})
            return None

    def exists(self) -> bool:
        return self._path.exists()

    def keep(self, known: dict[str, Any]) -> None:
        """Write it, if it changed, by renaming.  Raises OSError."""
        if known == self._written:
            return
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps({"boot": self._boot, **known}), encoding="ascii")
        temporary.rename(self._path)
        self._written = known


def observation(raw: dict[str, Any]) -> Observed:
    """An observation as it was written down.  Raises ValueError, TypeError, KeyError."""
    return Observed(
        record=None if raw["record"] is None else lease_record(raw["record"]),
        at=int(raw["at"]),
        previous_duration_s=int(raw["previous_duration_s"]),
        displaced=tuple((str(seal), int(until)) for seal, until in raw["displaced"]),
    )


def lease_record(raw: dict[str, Any]) -> LeaseRecord:
    """A record as it was written down: equal to what it was.  Raises ValueError, TypeError, KeyError."""
    return LeaseRecord(**raw | {"apis": tuple(str(each) for each in raw.get("apis") or ())})
