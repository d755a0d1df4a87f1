"""Which of many like occurrences get a line of the log.  Pure.

`Repeats` promises of one condition: its first occurrence is told at once; whatever comes, no kind of it gets more than
`free` lines in a period, and its ends are no more than those lines and one a period; no occurrence is lost from the
count.  An end is told only where the reader was told that something had begun.  Instants and periods are ns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policy import timing

PERIOD: Final = 60 * timing.SECOND


@dataclass(frozen=True, slots=True)
class Ended:
    """The condition is over."""

    count: int
    """All occurrences since the end before, told or not."""
    began: int
    """The first of them."""
    lasted: int
    """ns from the first of them to the end."""


@dataclass(slots=True)
class _Kind:
    window_from: int
    told: int = 0
    """Lines in this window."""
    pending: int = 0
    """Occurrences since the last line."""


@dataclass(slots=True)
class Repeats:
    """One condition; its kinds (of a closed list) are told apart, and end together."""

    period: int = PERIOD
    free: int = 1
    """Lines of each kind in a period."""
    passes: bool = False
    """Nobody says when it is over: it is when nothing of it came for a period."""
    active: bool = False
    count: int = 0
    """Occurrences since the last end that was told."""
    _began: int = 0
    _last: int = 0
    _ended_at: int | None = None
    _told: bool = False
    """Since that end: the reader believes that the condition holds."""
    _kinds: dict[str, _Kind] = field(default_factory=dict)

    def happened(self, now: int, kind: str = "") -> int | None:
        """It occurred.  How many like it had no line of their own since the last; None: this one gets none either."""
        self._began = self._began if self.count else now
        self.active, self._last = True, now
        self.count += 1
        one = self._kinds.setdefault(kind, _Kind(now))
        if not self._may(one, now):
            one.pending += 1
            return None
        return self._line(one, now)

    def over(self, now: int) -> Ended | None:
        """It is over, as its owner knows; None: nothing is to be said (yet)."""
        if not self.active:
            return None
        self.active = False
        return self._end(now)

    @property
    def due(self) -> int | None:
        """When to `look`; None: nothing waits for that."""
        if not self.active:
            return (self._ended_at or 0) + self.period if self.count else None
        instants = [one.window_from + self.period for one in self._kinds.values() if one.pending]
        if self.passes:
            instants.append(self._last + self.period)
        return min(instants, default=None)

    def look(self, now: int) -> tuple[dict[str, int], Ended | None]:
        """What time has made worth a line: kinds, with how many beside their latest had none; and the end."""
        if self.passes and self.active and now >= self._last + self.period:
            self.active = False
        if not self.active:
            return {}, self._end(now) if self.count else None
        found = {}
        for name, one in self._kinds.items():
            if one.pending and self._may(one, now):
                one.pending -= 1  # the latest is the one that the line tells
                found[name] = self._line(one, now)
        return found, None

    def _may(self, one: _Kind, now: int) -> bool:
        if now >= one.window_from + self.period:
            one.window_from, one.told = now, 0
        return one.told < self.free

    def _line(self, one: _Kind, now: int) -> int:
        pending, one.pending = one.pending, 0
        one.told += 1
        self._told = True
        return pending

    def _end(self, now: int) -> Ended | None:
        """Told at once to who believes that it holds; what only flickered by, once a period."""
        if not self._told and self._ended_at is not None and now < self._ended_at + self.period:
            return None
        ended = Ended(self.count, self._began, now - self._began)
        self.count, self._told, self._ended_at = 0, False, now
        for one in self._kinds.values():
            one.pending = 0
        return ended
