"""Whether the node may be trusted to forge: judged from its socket and its own metrics.

A node that answers but whose tip is old would forge on a stale chain and lose; one whose clock is behind its own chain
would sign for slots that are over; one that does not answer cannot be confirmed to have stopped.  Each is unfit, and so
is one in whose place another node answers.
ns of CLOCK_BOOTTIME unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policy import timing

_EARLIEST_START_S: Final = 1_500_000_000
"""The year 2017, with the first nodes: whose clock says less has none, and what says so little is no time."""
_LATEST_START_S: Final = 4_000_000_000
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
    stranger: str = ""
    """Why who answers with metrics is another node; empty: that is not known of it."""


@dataclass(frozen=True, slots=True)
class Began:
    """When the node's process came into being.  Unix seconds, by the wall clock as it is now."""

    pid: int
    ticks: int
    """With the pid: which process."""
    process_s: float
    socket_s: float | None
    """When its socket was made; None: it has none yet, or that cannot be seen."""


class Owner:
    """Whose metrics they are: a node says in them when it started, and the kernel knows when its process did.

    Who listens at their port is nothing that a worker may see of another process.  Another node that was started
    between this one's process and its socket passes for it.
    """

    def __init__(self) -> None:
        self._own: tuple[int, int, int] | None = None
        """Process and start as they once agreed: a wall clock that is set afterwards takes nothing back."""

    def stranger(self, started_s: int | None, began: Began | None) -> str:
        """Why metrics that tell this start are not those of the process that `began`; empty: they may be."""
        if started_s is None or began is None or not _EARLIEST_START_S <= started_s <= _LATEST_START_S:
            return ""
        this = (began.pid, began.ticks, started_s)
        if this == self._own:
            return ""
        if (before_s := began.process_s - started_s) > CLOCKS_DIFFER_S:
            return (
                f"NODE_METRICS_URL is answered by another node: by its metrics it started {before_s:.0f} s before "
                f"process {began.pid}, which is the node here; give each node on this host a port of its own (if the "
                "clock was set forward since the node started, restart the node)"
            )
        if began.socket_s is None:
            return ""
        if (after_s := started_s - began.socket_s) > CLOCKS_DIFFER_S:
            return (
                f"NODE_METRICS_URL is answered by another node: by its metrics it started {after_s:.0f} s after "
                f"process {began.pid}, which is the node here, had made NODE_SOCKET; give each node on this host a "
                "port of its own"
            )
        self._own = this
        return ""


def most_ahead_s(max_tip_lag_s: float) -> float:
    """By how many seconds a tip may be ahead of the wall clock."""
    return max(max_tip_lag_s, CLOCKS_DIFFER_S)


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
        reasons += [look.stranger] if look.stranger else self._judge_metrics(look)
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
            if ahead_s > most_ahead_s(self._max_lag_s):
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
