"""Small SVG plots that are readable in light and dark: grouped bars and lines.  Pure: figures in, text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
"""Of Okabe and Ito: told apart by colour-blind eyes, and seen on white and on black."""
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.head{font-weight:600;font-size:14px}"
    ".grid{stroke:#8c959f;stroke-opacity:.35}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
)
_WIDTH: Final = 760
_LEFT: Final = 210
_RIGHT: Final = 70
_BAR: Final = 14


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places, from 0 or (logarithmic) from `least` on."""

    least: float
    most: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.least, self.most, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, low))
        share = (at - low) / (high - low) if high > low else 0.0
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)


def ticks(most: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to `most` or just beyond, about so many."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(step * number, 10) for number in range(math.ceil(most / step - 1e-9) + 1)]


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Horizontal bars: group -> series -> value.  The series have the same order and colour in each group."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    colour = dict(zip(names, COLOURS, strict=False))
    marks = ticks(max((value for group in groups.values() for value in group.values()), default=0.0))
    scale = Scale(0, marks[-1], _LEFT, _WIDTH - _RIGHT)
    parts, y = _head(title, names, colour)
    top = y
    for group, values in groups.items():
        y += 8
        middle = y + _BAR * len(values) / 2 + 4
        parts.append(_text(_LEFT - 10, middle, group, "end"))
        for name, value in values.items():
            width = max(scale(value) - _LEFT, 1.0 if value else 0.0)
            parts.append(
                f'<rect x="{_LEFT}" y="{y:g}" width="{width:.1f}" height="{_BAR - 2}" fill="{colour[name]}">'
                f"<title>{escape(f'{group}, {name}: {value:g} {unit}')}</title></rect>"
            )
            parts.append(_text(_LEFT + width + 5, y + _BAR - 4, _number(value)))
            y += _BAR
    y += 8
    for mark in marks:
        parts.insert(1, f'<line class="grid" x1="{scale(mark):.1f}" x2="{scale(mark):.1f}" y1="{top}" y2="{y}"/>')
        parts.append(_text(scale(mark), y + 16, _number(mark), "middle"))
    parts.append(_text(_WIDTH - _RIGHT, y + 34, unit, "end"))
    return _svg(title, parts, y + 44)


def lines(
    title: str, x_unit: str, y_unit: str, series: Mapping[str, Sequence[tuple[float, float]]], *, log_y: bool = False
) -> str:
    """Lines over a logarithmic x: series -> points; of each x the mark is written once.  With log_y no value is 0."""
    colour = dict(zip(series, COLOURS, strict=False))
    points = [point for each in series.values() for point in each]
    xs = sorted({x for x, _ in points})
    most = max(y for _, y in points)
    if log_y:
        low = math.floor(math.log10(min(y for _, y in points)))
        marks = [10.0**power for power in range(low, max(math.ceil(math.log10(most)), low + 1) + 1)]
    else:
        marks = ticks(most)
    parts, top = _head(title, list(series), colour)
    bottom = top + 240
    left = 70
    x_scale = Scale(xs[0], xs[-1], left, _WIDTH - _RIGHT, log=True)
    y_scale = Scale(marks[0], marks[-1], bottom, top + 10, log=log_y)
    for mark in marks:
        at = y_scale(mark)
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(left - 8, at + 4, _number(mark), "end"))
    last = -math.inf
    for x in xs:
        if x_scale(x) - last >= 26:  # else it would lie on its neighbour
            last = x_scale(x)
            parts.append(_text(last, bottom + 18, _number(x), "middle"))
    for name, each in series.items():
        path = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in each)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour[name]}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="3.5" fill="{colour[name]}">'
            f"<title>{escape(f'{name}, {x:g}: {y:g} {y_unit}')}</title></circle>"
            for x, y in each
        ]
    parts.append(_text(_WIDTH - _RIGHT, bottom + 36, x_unit, "end"))
    parts.append(_text(left - 8, top - 2, y_unit))
    return _svg(title, parts, bottom + 46)


def _head(title: str, names: Sequence[str], colour: Mapping[str, str]) -> tuple[list[str], int]:
    """Title and legend; where the plot may begin."""
    parts = [f'<text class="head" x="10" y="20">{escape(title)}</text>']
    x = 10.0
    for name in names:
        parts.append(f'<rect x="{x:g}" y="32" width="12" height="12" fill="{colour[name]}"/>')
        parts.append(_text(x + 17, 42, name))
        x += 34 + 7 * len(name)
    return parts, 66


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _svg(title: str, parts: Sequence[str], height: float) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )
