"""The Lease as the election sees it: a record, and what of it was observed here.

Semantics of `coordination.k8s.io/v1` as client-go's leader election uses them; the times *in* the record are for
people and never compared with a clock of ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from policy.seal import opens, seal_of
from policy.timing import SECOND, SEEN_LATELY

RELEASED_DURATION_S: Final = 1
"""leaseDurationSeconds that a holder leaves behind with its release, as client-go does."""
MOST_DISPLACED: Final = 16
RENEWALS: Final = 128
"""So many renewTimes a client knows for its own: five minutes of writes, and what each wrote over."""


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
    """Of the pool-wide lock: the cluster to which its last holder left it; of an election: a pod, in a pause only."""
    seal: str = ""
    """Of the term (`policy.seal`); empty: its holder is one that makes none."""
    key: str = ""
    """Opens the seal: the term was released."""
    challenge: str = ""
    """Of the holder's arbiter (`policy.witness`): proves that this version was written after it was made."""

    members: int = 0
    """Of the pool-wide lock: of how many Leases its holder needs a majority; 0: it does not say."""
    apis: tuple[str, ...] = ()
    """Of the pool-wide lock: the coordination APIs that these are on, as far as its holder has reached them."""
    renew_time: str = ""
    """spec.renewTime as the server wrote it.  Never held against a clock; but two versions of one number, of a server
    that was restored from a backup and counts again, differ in it.
    """

    counter: str = ""
    """The highest certificate counter with which a block of this cluster's nodes was made
    (`policy.certificate_counter`); empty: none is known.
    """
    paused: str = ""
    """An operator's pause (`policy.pause`); empty: there is none."""

    @property
    def given_up(self) -> bool:
        """Nobody's, as a holder leaves it.  A holder erased by hand leaves its duration."""
        if self.holder:
            return False
        return opens(self.key, self.seal) if self.seal else self.duration_s <= RELEASED_DURATION_S

    def kept_for(self, name_of: Callable[[str], str]) -> str:
        """Who has it, or to whom it was left; empty: it is anybody's.  `name_of`: of a holder's identity."""
        return name_of(self.holder) if self.holder else self.preferred_holder

    @property
    def unsealed(self) -> bool:
        """Its holder makes no seal; one that was opened is an earlier term's, in what that holder sent back."""
        return not self.seal or opens(self.key, self.seal)


@dataclass(frozen=True, slots=True)
class Observed:
    """A record and when this process first saw it exactly so."""

    record: LeaseRecord | None
    """None: there is no such Lease."""
    at: int
    """CLOCK_BOOTTIME ns, taken after the answer arrived."""
    previous_duration_s: int = 0
    """Of a holder that went without a release that we can believe: it may still be forging.

    Also when the first look finds the Lease released: whoever may write it can write that over a holder's name, and
    nobody here has seen whose seal it was.
    """
    displaced: tuple[tuple[str, int], ...] = ()
    """Terms that were overwritten, erased or deleted, by seal, and when their rights end (ns).

    Also a seal within a term: a holder's arbiter may change its half, and a thief may write his own over it.  And
    whoever may have been written over unseen, before the first look or in a gap.
    """

    @property
    def displaced_until(self) -> int:
        """Until then a holder may forge whom nobody heard release: a thief's own release frees nothing of his."""
        return max((until for _, until in self.displaced), default=0)

    @property
    def free(self) -> bool:
        """Nobody can hold it: we saw its last holder hold it, and release it."""
        return self.record is not None and self.record.given_up and not self.previous_duration_s

    @property
    def duration_s(self) -> int:
        """For how long somebody may hold it from `at` on, as far as the Lease says."""
        said = self.record.duration_s if self.record is not None else 0
        return max(said, self.previous_duration_s)

    @property
    def orphaned(self) -> bool:
        """Taken from its holder without being given to another: deleted, or the holder erased by hand."""
        return self.record is None or (not self.record.holder and not self.free)


def seen_lately(seen: Observed | None, read_at: int, now: int) -> bool:
    """Whether what we know of a Lease is how it is, and not how it was before a restore that nobody told of.

    `read_at`: when it was read last (ns), and not only told of by a watch.
    """
    told_at = seen.at if seen is not None else 0
    return now - max(read_at, told_at) <= SEEN_LATELY


def observe(
    old: Observed | None, record: LeaseRecord | None, now: int, *, at_least_s: int = 0, missed: bool = False
) -> Observed:
    """The new observation: time starts again only if something changed.

    `at_least_s`: seconds that any term lasts, whatever the Lease says: somebody may have written less over it.
    `missed`: there may have been versions in between that nobody here saw.
    """
    if old is not None and old.record == record and not missed:
        return old
    return Observed(
        record, now, _unreleased(old, record), _displaced(old, record, now, at_least_s, missed=missed or old is None)
    )


def _displaced(
    old: Observed | None, record: LeaseRecord | None, now: int, at_least_s: int, *, missed: bool
) -> tuple[tuple[str, int], ...]:
    found = dict(old.displaced) if old is not None else {}
    if missed:  # whom we see may have been written over another a moment ago
        found[""] = max(found.get("", 0), now + at_least_s * SECOND)
    before = old.record if old is not None else None
    if old is not None and before is not None and before.holder and not _ended_well(before, record):
        until = old.at + max(before.duration_s, at_least_s) * SECOND
        seal = "" if before.unsealed else before.seal
        found[seal] = max(found.get(seal, 0), until)
    if record is not None and record.key:
        found.pop(seal_of(record.key), None)
    return _fewer({seal: until for seal, until in found.items() if until > now})


def _fewer(found: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """No more than MOST_DISPLACED: what a flood of terms pushes out is counted as one that nothing opens."""
    terms = tuple(found.items())
    if len(terms) <= MOST_DISPLACED:
        return terms
    pushed_out, kept = terms[: 1 - MOST_DISPLACED], terms[1 - MOST_DISPLACED :]
    return (("", max(until for _, until in pushed_out)), *kept)


def _ended_well(before: LeaseRecord, record: LeaseRecord | None) -> bool:
    """Whether the term that was last seen goes on under its seal, or was released by its holder."""
    if record is None:
        return False
    return _goes_on(before, record) or (not record.holder and _released(before, record))


def _goes_on(before: LeaseRecord, record: LeaseRecord) -> bool:
    one, other = (before.holder, before.transitions, before.uid), (record.holder, record.transitions, record.uid)
    return one == other and before.seal == record.seal


def _unreleased(old: Observed | None, record: LeaseRecord | None) -> int:
    """Duration of a term that went without its holder's release; 0: none, or another holder's term counts now."""
    if record is not None and record.holder:
        return 0
    if old is None:
        return _lasted(record) if record is not None else 0
    before = old.record
    if before is None or not before.holder:
        return max(old.previous_duration_s, 0 if before is None or before.given_up else _lasted(before))
    return 0 if record is not None and _released(before, record) else _lasted(before)


def _lasted(record: LeaseRecord) -> int:
    """Never 0, which would mean that nobody had it."""
    return max(record.duration_s, RELEASED_DURATION_S)


def _released(before: LeaseRecord, record: LeaseRecord) -> bool:
    """Whether the holder itself released the term that was last seen, in the same Lease."""
    if not record.given_up or record.uid != before.uid:
        return False
    if before.unsealed:
        return record.transitions >= before.transitions and record.duration_s <= RELEASED_DURATION_S
    return record.transitions == before.transitions and opens(record.key, before.seal)


class Renewals:
    """Which renewals of a Lease are those of one client that writes it.

    Another process of the same name may write it: that of a machine that was copied while it ran has our identity and
    our keys.  Two of them write no renewTime in the same microsecond; what else is edited leaves it as it is.
    """

    def __init__(self) -> None:
        self._known: deque[str] = deque(maxlen=RENEWALS)

    def wrote(self, renew_time: str, *, over: LeaseRecord | None) -> None:
        """A write was sent, whether its answer comes or not.  `over`: what it replaces; perhaps an earlier life's."""
        if over is not None:
            self._known.append(over.renew_time)
        self._known.append(renew_time)

    def is_foreign(self, record: LeaseRecord | None) -> bool:
        """Whether another client has renewed it last, if this one has written it before."""
        return record is not None and bool(self._known) and record.renew_time not in self._known
