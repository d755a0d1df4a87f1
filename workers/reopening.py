"""When to open the next watch: at once, unless the last ones were over as soon as they were open.

A server, or what stands before it, that closes each watch at once, or has always forgotten where it begins, would be
asked as fast as it answers.  An ordinary end, and a first "too old", cost nothing: whoever waits for the lease hears of
it.
"""

from __future__ import annotations

import random
from typing import Final

from policy import timing

SHORT_S: Final = 1.0
"""A watch that is over sooner, and told nothing, was none."""


class Reopening:
    """Of one follower.  `now_s`: time of the loop."""

    def __init__(self) -> None:
        self._opened_s = 0.0
        self._told = self._gone = False

    def opened(self, now_s: float) -> None:
        self._opened_s, self._told = now_s, False

    def told(self) -> None:
        """An event came."""
        self._told, self._gone = True, False

    def ended(self, now_s: float) -> float:
        """The server ended the watch; for how many seconds to wait before the next."""
        if self._told or now_s - self._opened_s >= SHORT_S:
            self._gone = False
            return 0.0
        return _pause_s()

    def gone(self) -> float:
        """The server does not know any more what came after the version that was asked for."""
        again, self._gone = self._gone, True
        return _pause_s() if again else 0.0


def _pause_s() -> float:
    return (timing.RETRY_PAUSE + random.randrange(timing.RETRY_PAUSE // 2)) / timing.SECOND  # noqa: S311  # spreads
