"""The pictures of a campaign's report: SVG that stands in the page and takes its colours from it.

Pure: numbers in, text out.  Whatever is text is escaped.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

WIDTH: Final = 1000
LABEL: Final = 118
"""Left of a lane, for its name."""
LANE, LANE_SPACE = 11, 4
MARK, MARKS = 8, 3
"""Height of a fault's mark, and how many of them are stacked before they share a line."""
BAND_S: Final = (60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 10800, 21600)
BANDS: Final = 12
"""Lines of a time line, at most; the longest band is taken when it cannot be helped."""
BINS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 16.0, 30.0)


def n(value: float) -> str:
    """A coordinate."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def band_length(length_s: float) -> int:
    """So long is a line of a time line, seconds."""
    return next((band for band in BAND_S if band * BANDS >= length_s), BAND_S[-1])


def clipped(begin: float, end: float, low: float, high: float) -> tuple[float, float] | None:
    """What of it is in the window; None: nothing."""
    begin, end = max(begin, low), min(end, high)
    return (begin, end) if begin < end else None


def timeline(part: dict[str, Any]) -> str:
    """Lines of equal length: faults above, a lane for each node, gaps and overlaps across the lanes."""
    began, ended = part["began_s"], part["ended_s"]
    band = band_length(ended - began)
    lines = []
    start = began
    while start < ended or not lines:
        lines.append(_band(part, start, min(start + band, max(ended, start + 1)), band))
        start += band
    return "\n".join(lines)


def _band(part: dict[str, Any], low: float, high: float, band: int) -> str:
    nodes = part["nodes"]
    top = MARKS * MARK + 4
    bottom = top + len(nodes) * (LANE + LANE_SPACE)
    scale = (WIDTH - LABEL - 14) / band

    def x(at: float) -> float:
        return LABEL + (at - low) * scale

    inside = [f'<text class="lane faint" x="{LABEL - 8}" y="{top - 6}">faults</text>']
    for number, (name, intervals) in enumerate(nodes.items()):
        y = top + number * (LANE + LANE_SPACE)
        inside.append(f'<text class="lane" x="{LABEL - 8}" y="{n(y + LANE - 2)}">{escape(name)}</text>')
        inside.append(f'<rect class="idle" x="{LABEL}" y="{n(y)}" width="{n(x(high) - LABEL)}" height="{LANE}"/>')
        for begin, end in intervals:
            seen = clipped(begin, end, low, high)
            if seen is not None:
                inside.append(
                    _rect("forges", x(seen[0]), y, (seen[1] - seen[0]) * scale, LANE)
                    + _title(f"{name} forges from {clock(begin)} to {clock(end)}, {end - begin:.1f} s")
                    + "</rect>"
                )
    broken = {each["number"] for each in part["rounds"] if each["violations"]}
    for gap in part["gaps"]:
        seen = clipped(gap["begin_s"], gap["end_s"], low, high)
        if seen is not None:
            kind = "gap bad" if gap["round"] in broken or gap["round"] is None else "gap"
            told = f"nobody forges for {gap['end_s'] - gap['begin_s']:.3f} s"
            told += f", round {gap['round']}" if gap["round"] is not None else ", before the first round"
            width = max(1.5, (seen[1] - seen[0]) * scale)
            inside.append(_rect(kind, x(seen[0]), top - 2, width, bottom - top) + _title(told) + "</rect>")
    for begin, end in part["overlaps"]:
        seen = clipped(begin, end, low, high)
        if seen is not None:
            width = max(3, (seen[1] - seen[0]) * scale)
            inside.append(
                _rect("two", x(seen[0]), top - 4, width, bottom - top + 4)
                + _title(f"TWO forge for {end - begin:.3f} s")
                + "</rect>"
            )
    inside += _marks(part, low, high, x)
    inside += _axis(low, high, band, bottom, x, part["began_s"])
    label = f"{part['name']}: from {clock(low)} to {clock(high)}"
    return (
        f'<svg class="line" viewBox="0 0 {WIDTH} {bottom + 16}" role="img" aria-label="{escape(label)}">'
        + "".join(inside)
        + "</svg>"
    )


def _marks(part: dict[str, Any], low: float, high: float, x: Any) -> Iterable[str]:
    free = [low - 1.0] * MARKS
    for played in part["rounds"]:
        for fault in played["faults"]:
            begin, end = fault["began_s"], max(fault["ended_s"], fault["began_s"] + 0.05)
            seen = clipped(begin, end, low, high)
            if seen is None:
                continue
            line = next((i for i in range(MARKS) if free[i] <= begin), MARKS - 1)
            free[line] = end
            kind = "missed" if fault["missed"] else "bad" if played["violations"] else "fault"
            y = (MARKS - 1 - line) * MARK
            width = max(3.0, x(seen[1]) - x(seen[0]))
            yield (
                f'<a href="#{part["name"]}-{played["number"]}">'
                + _rect(f"mark {kind}", x(seen[0]), y, width, MARK - 2)
                + _title(_fault_told(played, fault))
                + "</rect></a>"
            )


def _fault_told(played: dict[str, Any], fault: dict[str, Any]) -> str:
    told = f"#{played['number']} {fault['kind']} - {fault['victim']}"
    told += f" ({fault['told']})" if fault["told"] else ""
    if fault["missed"]:
        return f"{told}: missed, {fault['missed']}"
    bound = "recovery alone is bounded" if played["bound_s"] is None else f"bound {played['bound_s']:g} s"
    return (
        f"{told}, {fault['ended_s'] - fault['began_s']:.1f} s; round: {played['gap_s']:.3f} s without a forger, {bound}"
    )


def _axis(low: float, high: float, band: int, bottom: int, x: Any, began: float) -> Iterable[str]:
    step = max(10, band // 12)
    for number in range(band // step + 1):
        at = low + number * step
        if at <= high + 0.5:
            yield f'<line class="tick" x1="{n(x(at))}" x2="{n(x(at))}" y1="{bottom - 2}" y2="{bottom + 2}"/>'
            yield f'<text class="tick" x="{n(x(at))}" y="{bottom + 12}">{clock(at - began)}</text>'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{n(x)}" y="{n(y)}" width="{n(max(width, 0.4))}" height="{n(height)}" rx="1.5">'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def bins(gaps: Sequence[float]) -> list[tuple[str, int]]:
    """How many gaps are so long; every length has its place."""
    edges = [0.0, *BINS_S, float("inf")]
    names = [*(f"≤ {edge:g} s" for edge in BINS_S), f"> {BINS_S[-1]:g} s"]
    counts = [sum(low < gap <= high for gap in gaps) for low, high in itertools.pairwise(edges)]
    return list(zip(names, counts, strict=True))


def histogram(gaps: Sequence[float], label: str) -> str:
    """Bars side by side."""
    found = bins(gaps)
    most = max((count for _, count in found), default=0) or 1
    width, height = 500, 150
    step = width / len(found)
    inside = []
    for number, (name, count) in enumerate(found):
        tall = 105 * count / most
        left = number * step
        inside.append(
            _rect("bar", left + 4, 120 - tall, step - 8, tall) + _title(f"{count} gaps: {name}") + "</rect>"
            if count
            else ""
        )
        inside.append(
            f'<text class="count" x="{n(left + step / 2)}" y="{n(115 - tall)}">{count or ""}</text>'
            f'<text class="tick" x="{n(left + step / 2)}" y="134">{escape(name)}</text>'
        )
    inside.append(f'<line class="base" x1="0" x2="{width}" y1="120.5" y2="120.5"/>')
    return (
        f'<svg class="histogram" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        + "".join(inside)
        + "</svg>"
    )


def sparkline(points: Sequence[tuple[float, float]], label: str, slots: int = 40) -> str:
    """Medians over time, from zero on."""
    if len(points) < 2:
        return ""
    begin, end = points[0][0], points[-1][0]
    length = (end - begin) or 1.0
    groups: dict[int, list[float]] = {}
    for at, value in points:
        groups.setdefault(min(slots - 1, int((at - begin) / length * slots)), []).append(value)
    most = max(max(group) for group in groups.values()) or 1.0
    path = " ".join(
        f"{n((slot + 0.5) * 120 / slots)},{n(23 - 21 * statistics.median(group) / most)}"
        for slot, group in sorted(groups.items())
    )
    return (
        f'<svg class="spark" viewBox="0 0 120 24" role="img" aria-label="{escape(label)}">'
        f'<polyline points="{path}"/></svg>'
    )
