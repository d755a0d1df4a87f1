"""Reads a record of `devkit.record` while it is written: each line once, and only what matters to intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from devkit import record


class Tail:
    """The events of one record so far, without its slots."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._events: list[dict[str, Any]] = []

    def events(self) -> list[dict[str, Any]]:
        """In the order of time; none while there is no file.  A line that is being written comes with the next call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        fresh = [event for event in record.parse(whole.decode(errors="replace")) if event["event"] != "slot"]
        if fresh:
            self._events = sorted([*self._events, *fresh], key=lambda event: int(event["t"]))
        return self._events
