"""Forging records: what the nodes themselves wrote down, and what follows from it.

A record is a file of JSON lines `{"t": ns, "event": ..., "node": ...}` with t on CLOCK_MONOTONIC: `start`, `on`,
`slot` (still on), `off`, `stop` by the node; `exit` by whoever reaped it.  A node killed while forging forged until
it was reaped, or, if nobody wrote that down, until its successor started: never shorter than it really did.
Reading apart, everything here is pure.  Times are ns on that clock; only durations in seconds end in `_s`.
"""

from __future__ import annotations

import bisect
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NS = 1_000_000_000

_ENDS = frozenset({"off", "stop", "exit", "start"})
"""Events at which a node does not forge, or no more."""
_STILL = 1 << 63
"""Later than any time of a record: the end of an interval that goes on."""


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


class Follower:
    """One record that grows, of which each byte is read once: for whoever looks many times a second for hours.

    May be used by several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset, self._rest = 0, b""
        self._events: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        self._intervals: list[Interval] | None = None
        self._lock = threading.Lock()

    def intervals(self, now: int) -> list[Interval]:
        """As `intervals` says of the record up to now."""
        with self._lock:
            self._read()
            if self._intervals is None:
                self._intervals = intervals(self._events, _STILL)
            found = list(self._intervals)
        if found and found[-1].end == _STILL:
            found[-1] = Interval(found[-1].begin, max(now, found[-1].begin))
        return found

    def events(self) -> list[dict[str, Any]]:
        """All so far but for `slot`, in the order of time."""
        with self._lock:
            self._read()
            return list(self._events)

    def counts(self) -> dict[str, int]:
        """How many events of each name, `slot` too."""
        with self._lock:
            self._read()
            return dict(self._counts)

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return
        self._offset += len(fresh)
        whole, newline, self._rest = (self._rest + fresh).rpartition(b"\n")
        for event in parse(whole.decode(errors="replace")) if newline else []:
            self._counts[event["event"]] += 1
            if event["event"] != "slot":
                bisect.insort(self._events, event, key=lambda each: int(each["t"]))
                self._intervals = None


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
