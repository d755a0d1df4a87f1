"""The arithmetic of time: every duration on which safety or speed depends, and why it is what it is.

One host, one clock: all instants are CLOCK_BOOTTIME nanoseconds of this host (it goes on counting while the
machine sleeps).  Instants of two hosts are never compared; only their *rates* are assumed alike (A2: < 1 %).

    t          t+D-2.65 (D = 15)    t+D-2.15              t+D
    |-- grant ------------|--- soft ---|------ margin ------|
    renewal request sent  fence        kernel kills a hung  earliest instant at which
                          the node     actuator             anybody else may hold the lease
"""

from __future__ import annotations

from typing import Final

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
NEVER: Final = 2**62
"""An instant that does not come."""

LONGEST_LEASE_S: Final = 3600
"""LEASE_DURATION is no longer than this, so no right lasts longer, whatever a Lease says (seconds)."""

FENCE_MARGIN: Final = 2 * SECOND
"""Between the end of a grant and the end of the lease: one slot, one reload, and a kill if both failed."""

SOFT_LEAD: Final = SECOND // 2
"""A living actuator fences this long before the kernel would kill it for not having done so."""

DRIFT_SHARE: Final = 100
"""1/100 of the lease duration is set aside for clocks of different rates (assumption A2)."""

STATE_VALIDITY: Final = 6 * SECOND
"""A published state means nothing after this time; a frozen peer is thus forgotten."""

HEARTBEAT: Final = SECOND * 5 // 2
"""Each worker repeats its unchanged state this often."""

ARBITER_SILENCE: Final = 10 * SECOND
"""A leader bears its arbiter's silence this long: its restart is no reason to hand over."""

CHALLENGE_AGE: Final = SECOND * 5 // 2
"""The arbiter replaces its challenge at this age: with the heartbeat, so that it costs no message of its own."""

WATCHDOG: Final = 5 * SECOND
"""The kernel kills a worker whose loop stood still this long; supervisord then starts a new one."""

ACTUATOR_WATCHDOG: Final = 10 * SECOND
"""Longer for the actuator: its death costs a pause in forging, and its grant has a timer of its own."""

REQUEST_TIMEOUT: Final = SECOND * 3 // 2
"""The least for a leader's request: several fit between a missed renewal and the end of the grant."""

CONTENDER_TIMEOUT: Final = SECOND * 5 // 2
"""For a contender's request: a slow server must not keep everybody from forging."""

RETRY_PAUSE: Final = SECOND * 2 // 5
"""Between attempts after a failed request, plus up to half of it at random."""

SEEN_LATELY: Final = SECOND * 3 // 2
"""A Lease is taken from its last holder only if it was read, or told by a watch, at most this long ago.

A server that was restored from a backup gives version numbers a second time, and its watches are silent until it has
counted up to where they stand: the number alone does not tell that nothing was written.
"""

LOOK_AHEAD: Final = SECOND
"""A Lease that is about to run out is read this long before, so that taking it costs no request more."""

WATCH_TIMEOUT_S: Final = 240
"""Seconds after which a watch is closed by the server and opened anew: 1 request in 4 minutes."""

METRICS_GRACE: Final = 6 * SECOND
"""Metrics that answered once may fail this long before the node counts as unfit."""

UNFIT_GRACE: Final = 10 * SECOND
"""A leader's node may be unfit (not dead) this long before the lease is handed over."""

ARM_GRACE: Final = 8 * SECOND
"""A leader whose actuator could not arm within this time hands over."""

HANDOVER_PATIENCE: Final = 15 * SECOND
"""A leader that wants to hand over and hears nothing of the fence keeps renewing this long, then lets go."""

STEP_BACK: Final = 20 * SECOND
"""After a hand-over for a fault of our own: longer than a lease, so that another pod gets its turn."""

STAND_DOWN_DEFAULT_S: Final = 60
"""Seconds a pod stays out of the election after `forgectl stand-down`."""

CONFIRM_HURRY_TERM: Final = SECOND * 13 // 10
CONFIRM_HURRY_KILL: Final = SECOND * 19 // 10
"""Unconfirmed fence with the lease running out (or the pod stopping): SIGTERM, then SIGKILL the node.

CONFIRM_HURRY_KILL must stay below FENCE_MARGIN + SOFT_LEAD: the node is dead before the lease can pass.
"""

CONFIRM_CALM_TERM: Final = 6 * SECOND
CONFIRM_CALM_KILL: Final = 8 * SECOND
"""Unconfirmed fence while the lease is still being renewed: there is time to look for proof first."""

FLAT_SLOTS: Final = SECOND * 7 // 2
"""A forging thread counts each slot; a counter that is flat this long (three slots and a bit) has none."""

SETTLE: Final = 5 * SECOND
"""Without any metrics: this long after the node took the signal it is believed to have stopped (A3)."""

REPEAT_HUP: Final = 2 * SECOND
"""A signal that had no visible effect is sent again after this time, never earlier: one at a time."""

EXPOSE_AGAIN: Final = SECOND // 4
EXPOSE_AGAIN_AT_MOST: Final = 60 * SECOND
"""Keys that could not be installed (a full volume) are tried again after this pause, each one twice the one before."""

OFFER_LASTS: Final = 60 * SECOND
"""A node reads its keys within seconds of its start: after this time an offer to it serves nobody but a stranger."""

ARM_MINIMUM: Final = SECOND
"""A right to forge with less than this left is not worth a reload of the node."""

ROGUE_SETTLE: Final = SECOND
"""A sample taken this long after the fence was confirmed is the base line for noticing a rogue forger."""

BOOTSTRAP_REEXPOSE: Final = 10 * SECOND
"""Bootstrap files read by somebody, but no node appeared: offer them again after this time."""


def grant_deadline(sent_at: int, lease_duration: int) -> int:
    """The end of the right that a renewal sent at `sent_at` gives.  All in ns.

    Counted from before the request left: whenever the server handled it, nobody who counts a whole lease
    duration from having *seen* the renewal can be done before `sent_at + lease_duration`.
    """
    return sent_at + lease_duration - FENCE_MARGIN - lease_duration // DRIFT_SHARE


def usual_margin(lease_duration: int, sleep_interval: int) -> int:
    """What is left of a right when a renewal that was sent in time is answered at once.  All in ns."""
    return grant_deadline(0, lease_duration) - sleep_interval


def soft_deadline(deadline: int) -> int:
    """When a living actuator fences, given a grant's (hard) deadline in ns."""
    return deadline - SOFT_LEAD


def renewal_fits(lease_duration: int, sleep_interval: int) -> bool:
    """Whether one missed renewal still leaves time for another before the fence.  Both in ns."""
    usable = soft_deadline(grant_deadline(0, lease_duration))
    return 2 * sleep_interval <= usable
