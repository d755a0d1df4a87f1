"""Does anything of a pool wear out?  Figures of one life (of a process, of a folder), and whether they keep growing.

A figure may rise while its life is young, and swing.  So only the second half of a life is looked at, and there the
median of the slopes between any two samples (Theil and Sen), which no single outlier moves.  What it adds up to over
that half, or what lies between its first and its last quarter, must stay below a tolerance.  Pure but for `look` and
`contents`.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENOUGH: Final = 12
"""Samples of the second half of a life, from which on something is said."""
SPAN: Final = 200
"""Hand-overs in the second half of a life, from which on something is said."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Growth over the second half of a life that is none."""

    absolute: float
    share: float
    """Of the figure's median there."""

    def allows(self, growth: float, median: float) -> bool:
        return growth <= self.absolute + self.share * median


TOLERANCES: Final[dict[str, Tolerance]] = {
    "pss_kib": Tolerance(512, 0.03),
    "anonymous_kib": Tolerance(512, 0.03),
    "fds": Tolerance(1.5, 0),
    "threads": Tolerance(0.5, 0),
    "processes": Tolerance(0.5, 0),
    "tasks": Tolerance(1.5, 0),
    "files": Tolerance(1.5, 0),
    "bytes": Tolerance(16 * 1024, 0.05),
    "object_bytes": Tolerance(64, 0.02),
    "log_bytes": Tolerance(256, 0.25),
}
"""By figure.  `object_bytes`: of an object on the API server.  `log_bytes` is a rate: bytes for each hand-over."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one life, after so many hand-overs."""

    after: int
    owner: str
    """A pod and a worker, or a pod and a folder."""
    life: int
    """Another one is another pid, or another folder of the same name."""
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trend:
    """Of one figure of one life, in its second half."""

    owner: str
    figure: str
    samples: int
    span: int
    """Hand-overs."""
    first: float
    """Median of the half's first quarter."""
    last: float
    """Median of its last quarter."""
    growth: float
    """Over the half, by its trend."""
    judged: bool
    """It is long enough."""
    leaks: bool

    def __str__(self) -> str:
        return (
            f"{self.owner}: {self.figure} grows: {self.first:.0f} -> {self.last:.0f}, by its trend {self.growth:.1f} "
            f"in {self.span} hand-overs"
        )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between any two points; 0 of fewer than two."""
    found = [(y - b) / (x - a) for (a, b), (x, y) in itertools.combinations(points, 2) if x > a]
    return statistics.median(found) if found else 0.0


def trends(samples: Iterable[Sample], *, most: int = 150) -> list[Trend]:
    """Of every figure of every life.  most: points of one half that are compared with each other, evenly chosen."""
    lives: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        lives.setdefault((sample.owner, sample.life), []).append(sample)
    return [
        trend(owner, figure, life, most)
        for (owner, _), life in sorted(lives.items())
        for figure in TOLERANCES
        if any(figure in sample.figures for sample in life)
    ]


def trend(owner: str, figure: str, life: Sequence[Sample], most: int) -> Trend:
    """life: in order."""
    points = [(float(each.after), float(each.figures[figure])) for each in life if figure in each.figures]
    middle = (points[0][0] + points[-1][0]) / 2
    half = [point for point in points if point[0] >= middle]
    span = half[-1][0] - half[0][0]
    quarter = max(1, len(half) // 4)
    growth = slope(half[:: max(1, -(-len(half) // most))]) * span
    judged = len(half) >= ENOUGH and span >= SPAN
    first, last = (statistics.median(y for _, y in some) for some in (half[:quarter], half[-quarter:]))
    steady = (last - first) * 4 / 3  # what it comes to where it grows steadily; of what only swings the slope may rise
    allowed = TOLERANCES[figure].allows(min(growth, steady), statistics.median(y for _, y in half))
    return Trend(
        owner,
        figure,
        len(points),
        int(span),
        first,
        last,
        growth,
        judged,
        judged and not allowed,
    )


def unjudged(found: Iterable[Trend], owners: Iterable[str]) -> list[str]:
    """Of these, those of which no figure was judged: that nothing of them grew is not known."""
    return sorted(set(owners) - {each.owner for each in found if each.judged})


# --- looking ---


def look(pid: int) -> dict[str, float] | None:
    """Of a process (proc_pid_smaps_rollup(5), proc_pid_fd(5), proc_pid_task(5)); None: it has ended."""
    try:
        rollup = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        found = {
            "pss_kib": float(rollup["Pss"].split()[0]),
            "anonymous_kib": float(rollup["Anonymous"].split()[0]),
            "fds": float(len(os.listdir(f"/proc/{pid}/fd"))),  # noqa: PTH208  # names are not needed
            "threads": float(len(os.listdir(f"/proc/{pid}/task"))),  # noqa: PTH208
        }
    except (OSError, KeyError):
        return None
    return found if found["pss_kib"] > 0 else None


def contents(folder: Path) -> dict[str, float]:
    """Files (sockets and links too) and the bytes of what is a regular file, all the way down."""
    files = size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                info = Path(path, name).lstat()
            except FileNotFoundError:
                continue
            files += 1
            size += info.st_size if Path(path, name).is_file() and not Path(path, name).is_symlink() else 0
    return {"files": float(files), "bytes": float(size)}
