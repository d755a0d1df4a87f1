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

    A look costs what is new and what it asks for, however long the record is.  May be used by several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset, self._rest = 0, b""
        self._events: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        self._over: list[Interval] = []
        """In order and apart."""
        self._begun: int | None = None
        """Of the interval that goes on."""
        self._lock = threading.Lock()

    def intervals(self, now: int, since: int = -1) -> list[Interval]:
        """As `intervals` says of the record up to now, without those that were over at `since`."""
        with self._lock:
            self._read()
            first = bisect.bisect_right(self._over, since, key=lambda each: each.end)
            found = self._over[first:]
            if self._begun is not None:
                found.append(Interval(self._begun, max(now, self._begun)))
        return found

    def forges_at(self, at: int) -> bool:
        """Whether the node forged at this moment, as far as it has written it down."""
        with self._lock:
            self._read()
            if self._begun is not None and self._begun <= at:
                return True
            place = bisect.bisect_right(self._over, at, key=lambda each: each.begin)
            return place > 0 and at < self._over[place - 1].end

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
                self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        """Mostly the newest; what is written down late of an earlier time changes what followed from the rest."""
        if not self._events or int(event["t"]) >= int(self._events[-1]["t"]):
            self._events.append(event)
            self._follow(event)
            return
        bisect.insort(self._events, event, key=lambda each: int(each["t"]))
        self._over, self._begun = [], None
        for each in self._events:
            self._follow(each)

    def _follow(self, event: Mapping[str, Any]) -> None:
        self._begun, over = _next(self._begun, event)
        if over is not None:
            self._over.append(over)


def intervals(events: Iterable[Mapping[str, Any]], now: int) -> list[Interval]:
    """When the node forged, in order; one that still does, until `now`."""
    found = []
    begun: int | None = None
    for event in events:
        begun, over = _next(begun, event)
        if over is not None:
            found.append(over)
    if begun is not None:
        found.append(Interval(begun, max(now, begun)))
    return found


def _next(begun: int | None, event: Mapping[str, Any]) -> tuple[int | None, Interval | None]:
    """What one event makes of an interval that goes on (None: of none): one that goes on, and one that is over."""
    if event["event"] == "on" and begun is None:
        return int(event["t"]), None
    if event["event"] in _ENDS and begun is not None:
        return None, Interval(begun, int(event["t"]))
    return begun, None


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
