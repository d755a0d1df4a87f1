"""Forging records: what the nodes themselves wrote down, and what follows from it.

A record is a file of JSON lines `{"t": ns, "event": ..., "node": ...}` with t on CLOCK_MONOTONIC: `start`, `on`,
`slot` (still on), `off`, `stop` by the node; `exit` by whoever reaped it.  A node killed while forging forged until
it was reaped.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """Forged from `begin` to `end`; ns."""

    begin: int
    end: int


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of one record; a last line cut short by a kill is left out."""
    events = []
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return sorted(events, key=lambda event: int(event["t"]))


def intervals(events: Iterable[Mapping[str, Any]], now: int) -> list[Interval]:
    """When the node forged, in order; one that still does, until `now`."""
    found = []
    begin: int | None = None
    for event in events:
        if event["event"] == "on" and begin is None:
            begin = int(event["t"])
        elif event["event"] in ("off", "exit") and begin is not None:
            found.append(Interval(begin, int(event["t"])))
            begin = None
    if begin is not None:
        found.append(Interval(begin, max(now, begin)))
    return found


def _depth(nodes: Mapping[str, list[Interval]], start: int, end: int) -> list[tuple[int, int, int]]:
    """(from, to, how many forge) over the window, in order, without gaps."""
    edges = [(start, 0), (end, 0)]
    for found in nodes.values():
        for interval in found:
            begin, stop = max(interval.begin, start), min(interval.end, end)
            if begin < stop:
                edges += [(begin, 1), (stop, -1)]
    edges.sort()
    pieces = []
    count = 0
    for (at, change), (following, _) in itertools.pairwise(edges):
        count += change
        if following > at:
            pieces.append((at, following, count))
    return pieces


def overlap_s(nodes: Mapping[str, list[Interval]], start: int, end: int) -> float:
    """Seconds of the window in which two or more forged."""
    return sum(b - a for a, b, count in _depth(nodes, start, end) if count > 1) / NS


def gap_s(nodes: Mapping[str, list[Interval]], start: int, end: int) -> float:
    """Seconds of the window in which none forged."""
    return sum(b - a for a, b, count in _depth(nodes, start, end) if count == 0) / NS


def forgers_at(nodes: Mapping[str, list[Interval]], at: int) -> list[str]:
    return [name for name, found in nodes.items() if any(i.begin <= at < i.end for i in found)]
