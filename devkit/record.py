"""Forging records: what the nodes themselves wrote down, and what follows from it.

A record is a file of JSON lines `{"t": ns, "event": ..., "node": ...}` with t on CLOCK_MONOTONIC: `start`, `on`,
`slot` (still on), `off`, `stop` by the node; `exit` by whoever reaped it.  A node killed while forging forged until
it was reaped, or, if nobody wrote that down, until its successor started: never shorter than it really did.
Reading apart, everything here is pure.  Times are ns on that clock; only durations in seconds end in `_s`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NS = 1_000_000_000

_ENDS = frozenset({"off", "stop", "exit", "start"})
"""Events at which a node does not forge, or no more."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `begin` on, before `end`; ns."""

    begin: int
    end: int

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / NS


def parse(text: str) -> list[dict[str, Any]]:
    """The events of one record in the order of time; a line cut short by a kill is left out."""
    events = []
    for line in text.split("\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("t"), int) and isinstance(event.get("event"), str):
            events.append(event)
    return sorted(events, key=lambda event: int(event["t"]))


def read(path: Path) -> list[dict[str, Any]]:
    """The events of one record; none while the file does not exist."""
    try:
        return parse(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return []


def read_nodes(records: Mapping[str, Path], now: int) -> dict[str, list[Interval]]:
    """Name -> intervals, from one record each."""
    return {name: intervals(read(path), now) for name, path in records.items()}


def intervals(events: Iterable[Mapping[str, Any]], now: int) -> list[Interval]:
    """When the node forged, in order; one that still does, until `now`."""
    found = []
    begin: int | None = None
    for event in events:
        if event["event"] == "on" and begin is None:
            begin = int(event["t"])
        elif event["event"] in _ENDS and begin is not None:
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


def _joined(pieces: Iterable[tuple[int, int]]) -> list[Interval]:
    """Pieces in order, with those that touch made one."""
    found: list[Interval] = []
    for begin, end in pieces:
        if found and found[-1].end == begin:
            found[-1] = Interval(found[-1].begin, end)
        else:
            found.append(Interval(begin, end))
    return found


def overlaps(nodes: Mapping[str, list[Interval]], start: int, end: int) -> list[Interval]:
    """The stretches of the window in which two or more forged."""
    return _joined((a, b) for a, b, count in _depth(nodes, start, end) if count > 1)


def gaps(nodes: Mapping[str, list[Interval]], start: int, end: int) -> list[Interval]:
    """The stretches of the window in which none forged."""
    return _joined((a, b) for a, b, count in _depth(nodes, start, end) if count == 0)


def overlap_s(nodes: Mapping[str, list[Interval]], start: int, end: int) -> float:
    """Seconds of the window in which two or more forged."""
    return sum(interval.end - interval.begin for interval in overlaps(nodes, start, end)) / NS


def gap_s(nodes: Mapping[str, list[Interval]], start: int, end: int) -> float:
    """Seconds of the window in which none forged."""
    return sum(interval.end - interval.begin for interval in gaps(nodes, start, end)) / NS


def forgers_at(nodes: Mapping[str, list[Interval]], at: int) -> list[str]:
    """Who forges at this moment."""
    return [name for name, found in nodes.items() if any(i.begin <= at < i.end for i in found)]


def first_on_after(nodes: Mapping[str, list[Interval]], after: int) -> tuple[int, str] | None:
    """When, not before `after`, a node next began to forge, and which; None: none did."""
    begun = ((i.begin, name) for name, found in nodes.items() for i in found if i.begin >= after)
    return min(begun, default=None)
