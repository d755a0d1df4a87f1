"""The arbiter as witness: the second key is given only for what it saw of the Lease itself.

With cluster management off nobody else could tell a compromised elector from an honest one.  The arbiter therefore
follows the Lease through a session of its own, and countersigns only what it can prove.  Nothing that the elector
says makes it sign; it may only make it refuse, or look again.

**Challenge.**  The arbiter publishes a challenge: an instant T of this host's clock, authenticated with a key that
only it has.  The elector writes it into the Lease with each renewal.  A version that carries it was committed *after*
T, whatever the elector says and however late the watch tells of it; and no other pod's version carries it.  So it
costs no request, and serves as (a) lower bound of the commit and (b) the mark of what is ours.

**Ledger.**  The watch goes on from the version last seen, also over a restart, so no version is missed; after a gap
(410, first start) whatever may have been is counted as a right that ends a lease duration after the look, unless the
version is the one last seen.  Each version that names another may give its pod a right; it ends before (commit + its
duration), so before (seen + the longer of its duration and ours), which is what the ledger keeps, by the term's seal.
Only the key of that very seal (`policy.seal`) strikes an entry out.  Overwriting, erasing, deleting, making anew,
numbers of terms that jump or fall: none of them strikes out anything.  `clear_at` is the end of the last entry.

**Rule.**  A grant is given while the last version seen is ours, `clear_at` has passed, and its term did not begin
before the right of a holder that was seen had ended (then it was stolen: nothing is given until the Lease has left
us).  It ends at T + lease duration - margin, T of the last challenge seen in the Lease.

**Release.**  The elector says that it wants to let go.  From then on nothing is granted in this term; when the actuator
has said that it is fenced *and* has heard that (so it holds no grant of ours any more), the arbiter gives its half of
the seal's key away, once, and makes another for the next term.  (And for the next version, if the elector has changed
its mind.)  So no elector can release the Lease, in due form, under a node that may still forge.

**Why two never forge.**  Let every arbiter be honest and let any electors do what they like.  Let pod B's arbiter
grant at an instant g, after it saw B's version b with challenge T.  For any other pod's version a: if a was committed
before b, B saw it first (no gaps), and g is later than a's right, or its holder had released it.  If a was committed
after b, then the arbiter of a's pod saw b before it, and grants only from (b seen there + duration) > T + duration on,
when B's right has ended, the margin covering the drift of two clocks; a later version b' of B only moves that on.
With an honest elector in a's pod the same holds by its own rule (`policy.election`), whatever its arbiter does.

**What a compromised elector still can do**: keep everybody from forging (write the Lease again and again); take the
Lease from an honest leader, which costs the pool a lease duration or more; contend when the Lease is truly free, as an
honest elector would, and forge then alone.

Pure: no I/O, no clock.  All instants are ns of CLOCK_BOOTTIME.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from ipc.messages import Grant
from policy import timing
from policy.lease import LeaseRecord
from policy.seal import arbiters_half, half_of, opens, seal_of

BEFORE_RENEWAL: Final = timing.SECOND // 2
"""A leader's elector gets a fresh challenge this long before its renewal is due."""
OVERDUE_ROTATION: Final = timing.SECOND
FRESH: Final = timing.SECOND // 2
"""A term that begins with an older challenge is renewed once, at once: one request for each new leader at most."""
MOST_RIGHTS: Final = 64
"""Entries of the ledger; more are counted as one that ends last."""
MOST_MACS: Final = 16


@dataclass(slots=True)
class Ledger:
    """What is known of the Lease, and which rights of others may still stand.  Survives the arbiter's restart."""

    position: str = ""
    """The version from which the watch goes on; empty: not known, a look is needed."""
    record: LeaseRecord | None = None
    rights: dict[str, int] = field(default_factory=dict)
    """End of the right of each term of others, by its seal."""
    unknown_until: int = 0
    """End of the rights that may have been given unseen."""
    stolen: bool = False
    """The record is ours, but its term began before the rights of others had ended."""
    anchor: int = 0
    """T of the last challenge seen in a version of ours; 0: none in this term."""
    seal: str = ""
    """Of our last version."""
    granted: Grant | None = None
    half: int = 0
    """How many halves of keys have been used up."""
    giving_up: bool = False
    """Nothing is granted any more for a version with the present half."""
    given_away: str = ""
    """Our half of the key of the last term that was given up."""


class Witness:
    """One pod's witness of one Lease."""

    def __init__(
        self, pod_name: str, key: bytes, *, lease_duration_s: int, sleep_interval: int, now: int, ledger: Ledger
    ) -> None:
        """`key`: of this pod's challenges; random, kept as long as the ledger, never shown."""
        self.ledger = ledger
        self.reason = "the lease is not known yet"
        self._prefix = f"{pod_name}_"
        self._key = key
        self._macs: dict[str, str] = {}
        self._half = -1, ""
        """The last half, and its number: asked for at each judgement."""
        self._duration = lease_duration_s * timing.SECOND
        self._interval = sleep_interval
        self._made = now
        self._event_at = now
        self._stale = False
        """Our term began with a challenge that was not fresh: the right is shorter than it could be."""

    # --- what was seen ---

    def looked(self, record: LeaseRecord | None, version: str, now: int, *, restored: bool = False) -> None:
        """The answer of a list: the record and the version of the whole.  A gap, unless nothing was written in it.

        `restored`: the server went back to a backup; what it has forgotten, another may have seen.
        """
        ledger = self.ledger
        same = record is not None and record == ledger.record
        if restored or (not same and (not ledger.position or ledger.position != version)):
            ledger.unknown_until = max(ledger.unknown_until, now + self._duration)
            self._take(record, now, gap=True)
        ledger.position = version

    def saw(self, record: LeaseRecord | None, version: str, now: int) -> None:
        """The next version after `position`, from the watch; `now` taken when it was received."""
        if record is not None and record == self.ledger.record:
            return
        self._take(record, now, gap=False)
        self.ledger.position = version

    def lost_track(self) -> None:
        """The server cannot tell any more what came after `position`."""
        self.ledger.position = ""

    def _take(self, record: LeaseRecord | None, now: int, *, gap: bool) -> None:
        ledger = self.ledger
        before = max(ledger.rights.values(), default=0)
        ours_before = self.ours
        ledger.record = record
        self._event_at = now
        if record is None:
            return  # whoever held it may still: entries stay, and so does a grant of ours until its deadline
        if record.key:
            ledger.rights.pop(seal_of(record.key), None)
        if not record.holder:
            if opens(record.key, ledger.seal):
                self._not_ours()  # others may believe that; nothing else that empties the Lease ends a right of ours
            return
        issued = self._issued(record)
        if issued is None:
            self._not_ours()
            until = now + max(record.duration_s * timing.SECOND, self._duration)
            self._enter("" if record.unsealed else record.seal, until, now)
            return
        self._stale = not ours_before and issued < now - FRESH
        if not ours_before:
            ledger.stolen = not gap and issued < before
            ledger.anchor = 0
        ledger.anchor = max(ledger.anchor, issued)
        ledger.seal = record.seal

    def _enter(self, seal: str, until: int, now: int) -> None:
        rights = {s: u for s, u in self.ledger.rights.items() if u > now}
        rights[seal] = max(until, rights.get(seal, 0))
        if len(rights) > MOST_RIGHTS:
            self.ledger.unknown_until = max(self.ledger.unknown_until, *rights.values())
            rights = {}
        self.ledger.rights = rights

    def _not_ours(self) -> None:
        self.ledger.stolen, self.ledger.anchor, self.ledger.granted = False, 0, None
        self._cling()

    # --- what follows ---

    @property
    def clear_at(self) -> int:
        """From when on nobody else can have a right that was given before what was seen last."""
        return max(self.ledger.unknown_until, *self.ledger.rights.values(), 0)

    @property
    def unsure_until(self) -> int:
        """Until then (ns) not even a release by whom the Lease names would make us sign; 0: it would at once."""
        ledger = self.ledger
        named = ledger.record.seal if ledger.record is not None and not ledger.record.unsealed else ""
        return max(ledger.unknown_until, *(until for seal, until in ledger.rights.items() if seal != named), 0)

    @property
    def ours(self) -> bool:
        """Whether the Lease, as it was seen last, is this pod's by our own mark."""
        record = self.ledger.record
        return record is not None and self._is_ours(record)

    def grant(self, now: int, *, claimed: str, void_before: int) -> Grant | None:
        """What the actuator may know.  `claimed`: who the elector says it is; empty: it says nothing."""
        ledger = self.ledger
        record = ledger.record
        if not ledger.position and record is None:
            self.reason = "the lease is not known yet"
        elif not self.ours:
            self.reason = "the lease is not ours"
        elif ledger.giving_up:
            self.reason = "this term is being given up"
        elif ledger.stolen:
            self.reason = "the lease was taken from a holder that had not released it"
        elif now < self.clear_at:
            self.reason = "somebody else may still have the right to forge"
        elif claimed and record is not None and claimed != record.holder:
            self.reason = "the lease names an identity that the elector does not claim"
        elif record is not None:
            self._sign(record, void_before, now)
        granted = ledger.granted
        if granted is not None and now >= granted.deadline:
            ledger.granted = granted = None
        return granted

    def _sign(self, record: LeaseRecord, void_before: int, now: int) -> None:
        granted, anchor = self.ledger.granted, self.ledger.anchor
        if anchor <= void_before:
            self.reason = "waiting for a renewal after the jump of the wall clock"
            return
        duration = min(record.duration_s * timing.SECOND, self._duration)
        deadline = timing.grant_deadline(anchor, duration)
        if granted is None or deadline > granted.deadline or granted.fencing_token != record.transitions:
            granted = self.ledger.granted = Grant(
                holder=record.holder,
                fencing_token=record.transitions,
                deadline=deadline,
                renewed_at=anchor,
                exclusive=False,
            )
        if now < granted.deadline:
            self.reason = "the lease is ours, by its own observation"
        else:
            self.reason = "the lease was ours, and no renewal of it was seen in time"

    def willing(self, now: int) -> bool:
        """Whether a term that began now, with the challenge as it stands, would be countersigned."""
        ledger = self.ledger
        unhindered = bool(ledger.position) and not ledger.stolen and not ledger.giving_up
        return unhindered and self.clear_at <= self._made <= now

    def renew_after(self, now: int, void_before: int) -> int:
        """The elector shall renew at once if it last wrote a challenge of this instant or earlier; 0: no need."""
        ledger = self.ledger
        record = ledger.record
        if record is None or not self.ours:
            return 0
        if ledger.stolen or ledger.giving_up or now < self.clear_at:
            return 0
        duration = min(record.duration_s * timing.SECOND, self._duration)
        usable = ledger.anchor > void_before and timing.soft_deadline(timing.grant_deadline(ledger.anchor, duration))
        return ledger.anchor if self._stale or not usable or now >= usable - timing.SECOND else 0

    # --- the release ---

    @property
    def half(self) -> str:
        """Our half of the seal of a term that begins now, and of one that goes on."""
        if self._half[0] != self.ledger.half:
            self._half = self.ledger.half, half_of(self._half_key())
        return self._half[1]

    @property
    def giving_up(self) -> str:
        """Our half of the seal of the term in which nothing is granted any more; empty: none."""
        return self.half if self.ledger.giving_up else ""

    def let_go(self, half: str, *, fenced_and_heard: str) -> None:
        """The elector wants to release the term whose seal has this half of ours.  Empty: it does not, or no more.

        `fenced_and_heard`: `giving_up` as an actuator repeats it that is fenced; empty: it is not, or has not heard.
        """
        ledger = self.ledger
        if not half:
            self._cling()
        elif half == self.half and ledger.giving_up and fenced_and_heard == half:
            ledger.given_away = self._half_key()
            self._cling()
        elif half == self.half:
            ledger.giving_up, ledger.granted = True, None

    def _cling(self) -> None:
        """Give nothing up any more; with another half, so that an old word of the actuator counts for nothing."""
        ledger = self.ledger
        if ledger.giving_up:
            ledger.half, ledger.giving_up = ledger.half + 1, False

    def _half_key(self) -> str:
        return self._mac(f"half {self.ledger.half}")

    # --- challenges ---

    def challenge(self, now: int, *, void_before: int, renewed_at: int = 0) -> tuple[str, int]:
        """The challenge for the next write, and its instant; a new one when it is time."""
        if now >= self.next_challenge(void_before, renewed_at):
            self._made = now
        return f"{self._made}.{self._mac(str(self._made))}", self._made

    def next_challenge(self, void_before: int, renewed_at: int) -> int:
        """When the next challenge is due.

        `renewed_at`: when the elector says that it renewed last; 0: not known.  On a slow path to the API the news of
        a renewal comes late, and challenges that were timed by it would be old when they are used.  A wrong word
        costs a message a second at most: a challenge is good for the right from its own instant on, whenever made.
        """
        due = self._made + timing.CHALLENGE_AGE
        if self.ours:
            renewal = (renewed_at or self._event_at) + self._interval - BEFORE_RENEWAL
            due = min(due, max(renewal, self._event_at) if self._made < renewal else self._made + OVERDUE_ROTATION)
        if self._made < self.clear_at:
            due = min(due, self.clear_at)
        if self._stale and self._made <= self.ledger.anchor:
            due = min(due, self._event_at)
        return min(due, void_before + 1) if self._made <= void_before else due

    def _mac(self, text: str) -> str:
        """Of the same few texts at each judgement."""
        if text not in self._macs:
            if len(self._macs) >= MOST_MACS:
                self._macs.clear()
            self._macs[text] = hmac.new(self._key, text.encode("ascii", "replace"), hashlib.sha256).hexdigest()[:32]
        return self._macs[text]

    def _is_ours(self, record: LeaseRecord) -> bool:
        return self._issued(record) is not None

    def _issued(self, record: LeaseRecord) -> int | None:
        """The instant of our challenge in a version with our half that names this pod; None: another's version."""
        instant, _, mac = record.challenge.partition(".")
        if not record.holder.startswith(self._prefix) or arbiters_half(record.seal) != self.half:
            return None
        if not instant.isascii() or not instant.isdecimal():
            return None
        return int(instant) if hmac.compare_digest(mac.encode(), self._mac(instant).encode()) else None
