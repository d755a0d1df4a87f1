"""Whether the node may be trusted to forge: judged from its socket and its own metrics.

A node that answers but whose tip is old would forge on a stale chain and lose; one whose clock is behind its own chain
would sign for slots that are over; one that does not answer cannot be confirmed to have stopped.  Each is unfit.
ns of CLOCK_BOOTTIME unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policy import timing

CLOCKS_DIFFER_S: Final = 60.0
"""A tip may be so far ahead of this machine's clock: more is no matter of clocks that differ a little."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the node."""

    at: int
    socket_ok: bool
    """Its socket accepts connections (True when the check is disabled)."""
    socket_why: str
    metrics_ok: bool
    metrics_why: str
    slot: int | None
    """Slot of its tip, from its metrics."""
    wall_slot: int | None
    """The slot that the wall clock says it is; None for a network without a table."""
    slot_length_s: float = 1.0


class Fitness:
    """Folds looks into a judgement.  Metrics that were never there are not held against a node."""

    def __init__(self, now: int, *, max_tip_lag_s: float) -> None:
        self.fit = False
        self.since = now
        self.reasons: tuple[str, ...] = ("not looked at yet",)
        self.tip_lag_s: float | None = None
        self._max_lag_s = max_tip_lag_s
        self._metrics_seen = False
        self._metrics_failed_since = 0
        self._tip: tuple[int, int] | None = None

    def judge(self, look: Look) -> None:
        """Take one look into account."""
        reasons = []
        if not look.socket_ok:
            reasons.append(look.socket_why)
            # Another process will be behind the next socket: nothing learned of this one holds for it.
            self._tip, self._metrics_seen = None, False
        reasons += self._judge_metrics(look)
        reasons += self._judge_tip(look)
        fit = not reasons
        if fit != self.fit:
            self.fit, self.since = fit, look.at
        self.reasons = tuple(reasons)

    def _judge_metrics(self, look: Look) -> list[str]:
        if look.metrics_ok:
            self._metrics_seen, self._metrics_failed_since = True, 0
            return []
        if not self._metrics_seen:
            return []
        if self._metrics_failed_since == 0:
            self._metrics_failed_since = look.at
        if look.at - self._metrics_failed_since < timing.METRICS_GRACE:
            return []
        return [f"the node's metrics stopped answering: {look.metrics_why}"]

    def _judge_tip(self, look: Look) -> list[str]:
        if look.slot is None:
            self.tip_lag_s = None
            return []
        if self._tip is None or self._tip[0] != look.slot:
            self._tip = (look.slot, look.at)
        if look.wall_slot is not None:
            ahead_s = (look.slot - look.wall_slot) * look.slot_length_s
            self.tip_lag_s = max(0.0, -ahead_s)
            if ahead_s > max(self._max_lag_s, CLOCKS_DIFFER_S):
                return [
                    f"the node's tip is {ahead_s:.0f} s ahead of the wall clock: this machine's clock is behind, or "
                    "the node is of another network"
                ]
            what = "behind the wall clock"
        else:
            self.tip_lag_s = (look.at - self._tip[1]) / timing.SECOND
            what = "since it last moved"
        if self.tip_lag_s <= self._max_lag_s:
            return []
        return [f"the node's tip is {self.tip_lag_s:.0f} s {what}, allowed are {self._max_lag_s:.0f} s"]
