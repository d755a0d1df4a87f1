"""Text in the cells of a terminal: some characters take two, what strangers wrote must take no more than it says.

Pure.  What `shown` gives has in each cell at most one character, so no line is wider than it is counted.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from cli.asking import printable

CUT: Final = "..."


def shown(text: str) -> str:
    """Printable, and without marks that join the character before (no terminal agrees with another on these)."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(ascii(c)[1:-1] if unicodedata.category(c)[0] == "M" else c for c in printable(composed))


def width_of(text: str) -> int:
    """Cells that it takes."""
    return len(text) + sum(unicodedata.east_asian_width(c) in "WF" for c in text)


def cut(text: str, width: int) -> str:
    """At most `width` cells of it; what is left out is said where there is room to."""
    if width_of(text) <= width:
        return text
    end = CUT if width > 2 * len(CUT) else ""
    return _head(text, width - len(end)) + end


def wrapped(text: str, width: int, most: int) -> list[str]:
    """In lines of at most `width` cells, broken at spaces where there are any; at most `most` lines, at least one."""
    lines: list[str] = []
    rest = text
    while len(lines) + 1 < most and width_of(rest) > width and (head := _head(rest, width)):
        at = head.rfind(" ") if not rest[len(head) : len(head) + 1].isspace() else len(head)
        head = head[:at] if at > 0 else head
        lines.append(head)
        rest = rest[len(head) :].lstrip()
    return [*lines, cut(rest, width)]


def _head(text: str, width: int) -> str:
    taken = 0
    for index, c in enumerate(text):
        taken += width_of(c)
        if taken > width:
            return text[:index]
    return text
