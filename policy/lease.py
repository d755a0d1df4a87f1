"""The Lease as the election sees it: a record, and what of it was observed here.

Semantics of `coordination.k8s.io/v1` as client-go's leader election uses them; the times *in* the record are for
people and never compared with a clock of ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says."""

    resource_version: str
    holder: str
    """spec.holderIdentity; empty: released."""
    duration_s: int
    """spec.leaseDurationSeconds in seconds; 0 when absent."""
    transitions: int
    """spec.leaseTransitions: rises with each change of holder; our fencing token."""
    acquire_time: str = ""
    """spec.acquireTime as the server wrote it (RFC 3339 with microseconds); carried over, never compared."""
    uid: str = ""
    """metadata.uid: another one means the object was deleted and made anew."""
    preferred_holder: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """A record and when this process first saw it exactly so."""

    record: LeaseRecord | None
    """None: there is no such Lease."""
    at: int
    """CLOCK_BOOTTIME ns, taken after the answer arrived."""
    previous_duration_s: int = 0
    """Of the record that was last seen before the Lease vanished: its holder may still be forging."""


def observe(old: Observed | None, record: LeaseRecord | None, now: int) -> Observed:
    """The new observation: time starts again only if something changed."""
    if old is not None and old.record == record:
        return old
    previous = 0
    if record is None and old is not None:
        previous = old.record.duration_s if old.record is not None else old.previous_duration_s
    return Observed(record, now, previous)
