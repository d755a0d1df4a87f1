"""When a holder other than ourselves was last heard of: what a take-over is measured from.  Pure.

Instants are ns of CLOCK_BOOTTIME, those at which this process saw a Lease change; no clock of another machine is read.
"""

from __future__ import annotations


class LastSign:
    """Of one lock.  `at`: the last renewal or release of somebody else's that was seen; 0: none."""

    def __init__(self, identity: str) -> None:
        self.at = 0
        self._identity = identity
        self._another = False

    def note(self, holder: str, seen_at: int) -> None:
        """Who holds the lock now (empty: nobody), and since when it has been seen exactly so."""
        another = bool(holder) and holder != self._identity
        if another or (self._another and not holder):  # it renewed; or it let go, which is its last sign
            self.at = max(self.at, seen_at)
        self._another = another
