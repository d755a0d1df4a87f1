"""What follows from the intervals in which instances led: pure.  Times are ns on one clock; `_s` are seconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from devkit import record

Intervals = Mapping[str, list[record.Interval]]


@dataclass(frozen=True, slots=True)
class Round:
    """One fault."""

    nobody_s: float
    """In which none led, from the fault to the end of the window."""
    two_s: float
    """In which two or more did."""
    settled: bool = True
    """Whether it came to rest afterwards; if not, both are what was seen until patience ended."""


def judged(intervals: Intervals, since: int, until: int, *, settled: bool = True) -> Round:
    """What a fault at `since` did until `until`."""
    nobody = record.gap_s(dict(intervals), since, until)
    two = record.overlap_s(dict(intervals), since, until)
    return Round(round(nobody, 3), round(two, 3), settled)


def successor(intervals: Intervals, since: int, old: str, now: int) -> str:
    """Who leads now, not being `old`, and alone since the fault but for `old`; empty: nobody does."""
    others = [name for name in record.forgers_at(dict(intervals), now - 1) if name != old]
    return others[0] if len(others) == 1 and now > since else ""


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Median and most of each, and the rounds themselves."""
    nobody, two = [each.nobody_s for each in rounds], [each.two_s for each in rounds]
    return {
        "nobody_median_s": round(statistics.median(nobody), 3),
        "nobody_most_s": max(nobody),
        "two_median_s": round(statistics.median(two), 3),
        "two_most_s": max(two),
        "rounds": [asdict(each) for each in rounds],
    }


def per_minute(before: float, after: float, seconds: float) -> float:
    """A rise over so many seconds, per minute."""
    return round((after - before) * 60 / seconds, 3)


def mean(values: Iterable[float]) -> float:
    """0.0 of none."""
    found = list(values)
    return round(statistics.mean(found), 3) if found else 0.0
