"""When a hand-over disturbs no block: far enough from the slots that the pool was assigned.

For hand-overs that somebody planned and that can wait.  A schedule is what an operator supplied: it may be of another
epoch or of another pool.  So it only ever delays a planned hand-over, for a bounded time, and no decision on which
safety depends asks here.

`slots` are absolute slot numbers, ascending, each once (cardano.leadership_schedule), `slot` is the running one by the
wall clock.  A schedule that has no slot at or after the running one says nothing: all is quiet by it (`next_assigned`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def quiet_from(slots: Sequence[int], slot: int, phase_s: float, slot_length_s: float, gap_s: float) -> float:
    """Seconds from now until it is quiet for at least `gap_s` seconds; 0.0: it is now.

    Quiet is a moment in which no assigned slot is running and from which at least `gap_s` seconds (>= 0) pass until
    the next one begins.  The slot that is running began `phase_s` seconds ago (0 <= phase_s < slot_length_s).  After
    the last assigned slot all is quiet.  Takes O(log n) and the slots that are passed over.
    """
    # Counted in slots: a moment in seconds, rounded, might lie just before the slot that it is to be after.
    free, into_s = slot, phase_s
    for index in range(bisect_left(slots, slot), len(slots)):
        assigned = slots[index]
        if assigned > free and (assigned - free) * slot_length_s - into_s >= gap_s:
            break
        free, into_s = assigned + 1, 0.0
    return 0.0 if free == slot else (free - slot) * slot_length_s - phase_s


def next_assigned(slots: Sequence[int], slot: int) -> int | None:
    """The first assigned slot that is running or to come.

    None: the schedule has no slot in the future.  It is of an epoch that is over, or there are none left in this one;
    which, it does not say.
    """
    index = bisect_left(slots, slot)
    return slots[index] if index < len(slots) else None


def may_begin(now: int, *, asked_at: int, quiet_at: int, at_most: int) -> bool:
    """Whether a planned hand-over that was wanted at `asked_at` may begin.  Instants in ns of CLOCK_BOOTTIME.

    It may once it is quiet (`quiet_at`; 0: at any time), or when it has waited `at_most` ns.  `quiet_at` must be as of
    `now`: one from an earlier look may have the next assigned slot behind it.  Never ask this about a fence: a node
    that has no right to forge stops at once, whatever slot it is.
    """
    return now >= quiet_at or now - asked_at >= at_most
