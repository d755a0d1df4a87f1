"""The elector's decisions: client-go's leader election, with the grant and the fence tied to it.

`Election` is told what happened (`saw`, `wrote`, `failed`) and what is (`Circumstances`), and says what to do
next.  It keeps the invariants

- a grant is given only for a renewal that the API server confirmed, and counts from before its request was sent;
- whoever finds the Lease held, changed, vanished or without the holder that it had waits a whole lease duration,
  measured here, from the moment this process saw it so; no clock of another machine is read.  Only a release as its
  holder writes it is believed at once;
- a term of our own that another writes is not ours any more: a machine copied while it ran has our identity, too;
- the Lease is released only when the actuator reports the node fenced; until then it is renewed while possible;
- in a pause (`policy.pause`) a leader keeps the Lease though its node is gone or unfit, and only the pod that had it,
  or any after an operator's stand-down, takes it; grants and fence are as ever;
- with cluster management on, a holder whose API server is out of reach goes on (`degraded`) until it hears of another
  holder.  Its grant is then not exclusive and ends with that of the pool-wide lock, without which it is none at all.

All instants are ns of CLOCK_BOOTTIME.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from ipc.messages import ElectorState, Fence, Grant, Role
from policy import timing
from policy.lease import LeaseRecord, Observed, observe, seen_lately
from policy.quiet import may_begin

DEGRADES_BEFORE: Final = 2 * timing.SECOND
"""So long before its own grant would end a leader goes over to that of the pool-wide lock."""
CONTENDING: Final = "contending"
STANDING_DOWN: Final = "standing down as asked"
COPIED: Final = "another renews the lease in our name and term: a copy of this machine runs"


class Do(enum.Enum):
    """The next thing to do with the API."""

    READ = "read"
    CREATE = "create"
    TAKE = "take"
    """Write ourselves as holder over another (or nobody), a new term."""
    RENEW = "renew"
    RELEASE = "release"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Step:
    """`act` now; or, for WAIT, look again at `until` at the latest."""

    act: Do
    until: int
    why: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the elector knows beside the Lease."""

    fit: bool
    """The prober's fresh word that the node may forge."""
    unfit_for: int
    """ns since the node was last known to be fit; 0 while fit."""
    unfit_why: str
    ready: bool
    """The actuator's fresh word that it could arm at once."""
    not_ready_why: str
    fence: Fence | None
    """None: the actuator's state is not known."""
    void_before: int
    """The actuator takes no grant that was renewed at or before this instant (ns)."""
    node_gone: bool
    """The actuator's node ended and none has come up since."""
    stopping: bool
    heard_all: bool = True
    """Each of the other workers has spoken to this elector, or had time to."""
    managed: bool = False
    """Cluster management is on: the pool-wide lock decides, and this Lease only who contends for it."""
    pool_grant: Grant | None = None
    """The arbiter's, while it holds the pool-wide lock; exclusive, and not run out."""
    quiet_at: int = 0
    """When the pool's leadership schedule has a gap (ns): a drain waits for it; 0: it need not."""
    paused: str = ""
    """An operator's pause that is in force (`policy.pause`): nothing is handed or taken over by itself."""


@dataclass(frozen=True, slots=True)
class Held:
    """Our last term, as it is written down over a restart of the elector."""

    token: int
    version: str
    """Of the Lease after our last confirmed write."""
    until: int
    """Before this instant (ns, of this boot) nobody can have taken it from us in due form."""


class Election:
    """One pod's part in the election for one Lease."""

    def __init__(
        self,
        identity: str,
        *,
        lease_duration_s: int,
        sleep_interval: int,
        held: Held | None,
        now: int,
        seen: Observed | None = None,
        handover_wait: int = 0,
    ) -> None:
        """`held`, `seen`: an earlier life's last term, and what it saw last (its instants are of this boot).

        `handover_wait`: ns for which a drain waits at most for a gap in the leadership schedule.
        """
        self.identity = identity
        self.role = Role.OBSERVER
        self.since = now
        self.reason = "starting"
        self.changes_total = 0
        self.observed = seen
        self.grant: Grant | None = None
        self.renewal_margin: int | None = None
        """ns that were left of our right when it was last renewed; None: this term was not yet."""
        self.token = 0
        self._duration_s = lease_duration_s
        self._duration = lease_duration_s * timing.SECOND
        self._interval = sleep_interval
        self._held = held
        self._tried_token: int | None = None
        """Of the last new term that we asked for."""
        self._renewed_at = 0
        self._retry_at = 0
        self._conflict_at = now - timing.SECOND
        self._must_read = True
        self._read_at = 0
        """When the Lease was read last, and not only told of by a watch."""
        self._unanswered = False
        """The last request found nobody who answers."""
        self.copied = False
        """Another has written a term of ours: it has our identity, and all that we know."""
        self._seal = ""
        """Of our term, as our last confirmed write has it."""
        self._release_sent = False
        """Since that write: it may have arrived though its answer did not, and another may have followed."""
        self._world: Circumstances | None = None
        self._settled = held is None
        self._granted_since = 0
        self._step_back_until = 0
        self._stand_down_until = 0
        self._stand_down_for = 0
        self._drain_asked_at = 0
        """A drain that has not begun yet, and may wait; 0: there is none."""
        self._handover_wait = handover_wait

    # --- what happened ---

    def saw(
        self,
        record: LeaseRecord | None,
        now: int,
        *,
        missed: bool = False,
        read: bool = False,
        foreign: bool = False,
    ) -> None:
        """The Lease as read or watched; `now` taken after the answer arrived.

        `missed`: it may have changed in between without our having been told of each version.
        `foreign`: its last renewal is none of ours, whomever it names.
        """
        self.observed = observe(self.observed, record, now, at_least_s=self._duration_s, missed=missed)
        self._must_read = False
        self._read_at = now if read else self._read_at
        self._unanswered = self._unanswered and self.leading  # until we have renewed
        if record is not None and record.holder != self.identity:
            self._tried_token = None  # another was faster
            if record.holder:
                self._held = None  # whoever writes our old term over another's does not give it back
        if foreign and record is not None and record.holder == self.identity and self._claims(record):
            self._held, self._tried_token = None, None  # each of the two would take the other's term for its own
            self.copied = True
            if self.leading:
                self._lose(now, COPIED)
        if self.leading and not self._ours(record):
            followed = self._release_sent and (record is None or record.seal != self._seal)
            if self.observed.orphaned and now < self._right_ends() and not followed:
                return  # nobody else may take it before our right has ended; we make it ours again
            holder = record.holder if record is not None else ""
            self._lose(now, f"the lease was taken by {holder}" if holder else "the lease was released by hand")

    def wrote(self, record: LeaseRecord, *, sent_at: int, now: int) -> None:
        """Our write (CREATE, TAKE or RENEW) succeeded; `sent_at` taken before the request left."""
        self.observed = Observed(record, now)
        self._must_read = self._unanswered = False
        self._retry_at = 0
        self._seal, self._release_sent = record.seal, False  # one that is under way is refused from now on
        self._renewed_at = sent_at
        self._settled = True
        if not self.leading:
            self.changes_total += 1
            self._granted_since = now
            self._become(Role.LEADER, now, "took the lease")
        elif self.grant is not None:
            self.renewal_margin = max(self.grant.deadline - now, 0)
        self.token = record.transitions
        until = sent_at + self._duration - self._duration // timing.DRIFT_SHARE
        self._held, self._tried_token = Held(record.transitions, record.resource_version, until), None
        self.grant = Grant(
            holder=self.identity,
            fencing_token=record.transitions,
            deadline=timing.grant_deadline(sent_at, self._duration),
            renewed_at=sent_at,
            exclusive=True,
        )

    def released(self, record: LeaseRecord, now: int) -> None:
        """Our RELEASE succeeded."""
        self.observed = Observed(record, now)
        self._retry_at = 0
        self._held = None
        if self.leading:
            if self.reason == STANDING_DOWN:  # its time may have ended while the node was being fenced
                self._step_back_until = max(self._step_back_until, now + timing.SECOND)
            self._lose(now, self.reason)

    def failed(self, now: int, *, conflict: bool, pause: int) -> None:
        """A request failed.  After a conflict, or a write that may have arrived, the record must be read again.

        `pause` in ns before the next attempt (the caller adds jitter, or what Retry-After asked for); a first
        conflict needs none, a server that answers nothing but conflicts is not asked in a tight loop.
        """
        self._must_read = True
        self._unanswered = self._unanswered or not conflict
        first = conflict and now - self._conflict_at >= timing.SECOND
        self._conflict_at = now if conflict else self._conflict_at
        self._retry_at = now if first else now + pause

    def stand_down(self, until: int, now: int, *, at_once: bool = True) -> None:
        """Stay out of the election until `until` (timing.NEVER: until further notice; in the past: come back).

        Not `at_once`: who forges goes on until the leadership schedule has a gap; then the time begins.
        """
        self._stand_down_until = until if until > now else 0
        self._stand_down_for = until - now
        self._drain_asked_at = now if self._stand_down_until and not at_once else 0

    # --- what to do ---

    def request_timeout(self, now: int) -> int:
        """ns that the next request may take: a leader's leaves room for two more before its right ends."""
        if not self.leading:
            return timing.CONTENDER_TIMEOUT
        return max(timing.REQUEST_TIMEOUT, (self._right_ends() - now) // 3)

    @property
    def leading(self) -> bool:
        return self.role in (Role.LEADER, Role.HANDOVER)

    @property
    def right_ends(self) -> int:
        """End of the right that our last confirmed renewal gave; in the past while we do not lead."""
        return self._right_ends()

    def may_watch(self, now: int) -> bool:
        """Whether a contender may open a watch: the record is known, and no pause after a failure is running."""
        return not self.leading and self.observed is not None and not self._must_read and now >= self._retry_at

    @property
    def standing_down_until(self) -> int:
        """0: it does not, or has no end."""
        return 0 if self.drained else self._stand_down_until

    @property
    def drained(self) -> bool:
        """Whether it stands down until further notice."""
        return self._stand_down_until >= timing.NEVER

    @property
    def unsure_until(self) -> int:
        """Until then (ns) not even its holder's release would make the Lease free to us; 0: it would at once."""
        seen = self.observed
        if seen is None or self.leading:
            return 0
        return max(seen.displaced_until, self._runs_out(seen) if seen.orphaned else 0)

    @property
    def holder_until(self) -> int:
        """When its holder's lease runs out (ns), unless it is renewed; 0: nobody is named in it."""
        seen = self.observed
        return self._runs_out(seen) if seen is not None and seen.record is not None and seen.record.holder else 0

    @property
    def held(self) -> Held | None:
        """To be written down, and given to the next elector of this pod."""
        return self._held

    @property
    def settled(self) -> bool:
        """Whether it is known that we lead, or do not: after a restart the grant of an earlier life may still stand."""
        if self._settled:
            return True
        return self.observed is not None and not self._must_read and not self._continuing()

    @property
    def continuing(self) -> bool:
        """Whether the Lease names us in a term of our own while we do not lead: a restart, or no answer in time."""
        return not self.leading and self._continuing()

    def published_grant(self, now: int) -> Grant | None:
        """What the actuator may know: nothing unless we lead and want to."""
        if self.role is not Role.LEADER:
            return None
        pool = self._world.pool_grant if self._world is not None else None
        if self.degraded(now) and pool is not None and now < pool.deadline:
            return Grant(self.identity, self.token, pool.deadline, pool.renewed_at, exclusive=False)
        return self.grant if self.grant is not None and now < self.grant.deadline else None

    def degraded(self, now: int) -> bool:
        """Whether we lead by what was heard last of an API server that does not answer any more."""
        managed = self._world is not None and self._world.managed
        near = timing.soft_deadline(self._right_ends()) - DEGRADES_BEFORE
        return managed and self.role is Role.LEADER and self._unanswered and now >= near

    def next(self, now: int, world: Circumstances) -> Step:
        """The next step.  Call again after anything happened, and at `until`."""
        if self._drain_waits(now, world):
            self._stand_down_until = now + self._stand_down_for
        else:
            self._drain_asked_at = 0
        if self._stand_down_until and now >= self._stand_down_until:
            self._stand_down_until = 0
        self._settled = self.settled
        self._world = world
        if self._goes_on_unheard(now, world):
            assert self._held is not None
            self.token, self._settled = self._held.token, True
            self.changes_total += 1
            self._granted_since = now
            self._become(Role.LEADER, now, "held from before; the API server is out of reach")
        if self.leading:
            return self._next_as_leader(now, world)
        return self._next_as_contender(now, world)

    def _next_as_leader(self, now: int, world: Circumstances) -> Step:
        if now >= self._right_ends() and not self.degraded(now):
            self._lose(now, "could not renew the lease in time")
            return self._next_as_contender(now, world)
        against = self._against_leading(now, world)
        if against and self.role is Role.LEADER:
            self._become(Role.HANDOVER, now, against)
        if self._must_read:
            return self._at_retry(Do.READ, now, "the last request did not succeed")
        vanished = self.observed is not None and self.observed.record is None
        erased = self.observed is not None and self.observed.orphaned and not vanished
        if erased:  # also before a release, which the others would not believe of a lease that names nobody
            return self._at_retry(Do.RENEW, now, "we were erased from the lease while we held it")
        if self.role is Role.HANDOVER and world.fence is Fence.FENCED:
            if vanished:
                self._lose(now, self.reason)
                return self._next_as_contender(now, world)
            return self._at_retry(Do.RELEASE, now, self.reason)
        if self.role is Role.HANDOVER and world.fence is None and now - self.since >= timing.HANDOVER_PATIENCE:
            # The last grant has ended long ago and the kernel has enforced it: let the lease run out.
            return Step(Do.WAIT, min(now + timing.SECOND, self._right_ends()), "the fence is not known")
        if vanished:
            return self._at_retry(Do.CREATE, now, "the lease vanished while we held it")
        void = self._renewed_at <= world.void_before
        due = max(now if void else self._renewed_at + self._interval, self._retry_at)
        if now >= due:
            return Step(Do.RENEW, now, "renewal is due")
        return Step(Do.WAIT, min(due, now + timing.SECOND, self._right_ends()), "renewal is not due")

    def _goes_on_unheard(self, now: int, world: Circumstances) -> bool:
        """Whether a restarted elector leads on, though the API server does not answer: the pool-wide lock is ours."""
        pool = world.pool_grant
        alone = world.managed and not self.leading and self._unanswered and pool is not None and now < pool.deadline
        return alone and self._continuing() and self._held is not None and not self.against_contending(now, world)

    def _against_leading(self, now: int, world: Circumstances) -> str:
        """Why this leader should hand over; empty: it should not."""
        if world.stopping:
            return "stopping"
        if self._stand_down_until and not self._drain_asked_at:
            return STANDING_DOWN
        if world.paused:
            self._granted_since = now
            return ""
        if world.node_gone:
            self._step_back_until = now + timing.SECOND
            return "the node ended"
        if world.fence in (Fence.ARMED, Fence.ARMING):
            if world.unfit_for >= timing.UNFIT_GRACE:
                self._step_back_until = now + timing.STEP_BACK
                return f"the node is unfit: {world.unfit_why}"
            if world.fence is Fence.ARMED:
                self._granted_since = now
                return ""
        elif world.managed and world.pool_grant is None and world.ready:
            self._granted_since = now  # another cluster forges; we lead for when it does not
            if world.unfit_for >= timing.UNFIT_GRACE:
                self._step_back_until = now + timing.STEP_BACK
                return f"the node is unfit: {world.unfit_why}"
            return ""
        elif world.fence is Fence.FENCED and not world.ready:
            self._step_back_until = now + timing.SECOND
            return f"cannot arm: {world.not_ready_why}"
        if now - self._granted_since >= timing.ARM_GRACE:
            self._step_back_until = now + timing.STEP_BACK
            return "the node could not be armed in time"
        return ""

    def _drain_waits(self, now: int, world: Circumstances) -> bool:
        """Whether a drain that was asked for has not begun: our node forges, and will soon have a slot."""
        if not self._drain_asked_at or self.role is not Role.LEADER or world.fence is not Fence.ARMED:
            return False
        asked_at, wait = self._drain_asked_at, self._handover_wait
        return not may_begin(now, asked_at=asked_at, quiet_at=world.quiet_at, at_most=wait)

    def against_contending(self, now: int, world: Circumstances) -> str:
        """Why this pod should not take the lease; empty: it should."""
        if world.stopping:
            return "stopping"
        if self._stand_down_until:
            return STANDING_DOWN
        if world.fence is None:
            return "the actuator's state is not known"
        if not world.ready and not (self._continuing() and world.fence in (Fence.ARMED, Fence.ARMING)):
            return f"cannot arm: {world.not_ready_why}"
        if not world.fit:
            return f"the node is unfit: {world.unfit_why}"
        if now < self._step_back_until:
            return "giving others a turn after a hand-over"
        return ""

    def _next_as_contender(self, now: int, world: Circumstances) -> Step:
        against = self.against_contending(now, world)
        role = Role.OBSERVER if against else Role.STANDBY
        if role is not self.role or (against and against != self.reason):
            self._become(role, now, against or CONTENDING)
        elif not against and not world.paused:
            self.reason = CONTENDING  # and not any more that a pause keeps us out
        if self._must_read or self.observed is None:
            return self._at_retry(Do.READ, now, "the lease is not known")
        record = self.observed.record
        if against and self._continuing() and world.fence is Fence.FENCED and world.heard_all:
            return self._at_retry(Do.RELEASE, now, f"held from before, but {against}")
        if against:
            return Step(Do.WAIT, now + timing.SECOND, against)
        if self._continuing():
            return self._at_retry(Do.RENEW, now, "we held it before a restart")
        free_at = self._runs_out(self.observed)
        holder = record.holder if record is not None else ""
        look_at = free_at - timing.LOOK_AHEAD
        due = record is not None and (self.observed.free or now >= look_at)
        if due and not seen_lately(self.observed, self._read_at, now):
            return self._at_retry(Do.READ, now, "it was seen too long ago to be taken")
        if not self.observed.free and now < free_at:
            what = "no lease" if record is None else "nobody in the lease"
            until = look_at if now < look_at else free_at
            return Step(Do.WAIT, until, f"held by {holder}" if holder else f"{what}: its last holder may still forge")
        if now < (displaced := self.observed.displaced_until):
            return Step(Do.WAIT, displaced, "a holder that was written over may still forge")
        if kept_for := self._kept_from_us(record, world):
            self.reason = f"paused {world.paused}; {kept_for} alone may take the lease"
            return Step(Do.WAIT, now + timing.SECOND, self.reason)
        if self.observed.free:
            return self._at_retry(Do.TAKE, now, "the lease is free")
        if record is None:
            return self._at_retry(Do.CREATE, now, "there is no lease")
        return self._at_retry(Do.TAKE, now, f"{holder or 'its last holder'} did not renew it")

    # --- helpers ---

    @property
    def leaves_to(self) -> str:
        """The pod for which a release keeps the Lease in a pause; empty: it is anybody's."""
        paused = self._world is not None and self._world.paused
        return self._pod if paused and self.reason != STANDING_DOWN else ""

    @property
    def _pod(self) -> str:
        return pod_of(self.identity)

    def _kept_from_us(self, record: LeaseRecord | None, world: Circumstances) -> str:
        """The pod that alone may take the Lease in a pause; empty: this one may."""
        if not world.paused or record is None:
            return ""
        last = record.kept_for(pod_of)
        return last if last != self._pod else ""

    def begin(self, act: Do) -> int:
        """The fencing token to write with `act`: it rises with each new term, and never falls while we remember.

        A new term's token is kept in mind: if the answer is lost, the record will tell whether the write arrived.
        """
        record = self.observed.record if self.observed is not None else None
        self._release_sent = self._release_sent or act is Do.RELEASE
        if act in (Do.RENEW, Do.RELEASE) and record is not None:
            return self.token if self.leading else record.transitions
        self._tried_token = max(record.transitions if record is not None else 0, self.token) + 1
        return self._tried_token

    def _runs_out(self, seen: Observed) -> int:
        """When nobody can hold the Lease any more, as it was seen."""
        return seen.at + max(seen.duration_s * timing.SECOND, self._duration)

    def _right_ends(self) -> int:
        """End of the right that our last confirmed renewal gave."""
        return timing.grant_deadline(self._renewed_at, self._duration)

    def _ours(self, record: LeaseRecord | None) -> bool:
        return record is not None and record.holder == self.identity and record.transitions == self.token

    def _claims(self, record: LeaseRecord) -> bool:
        """Whether a Lease that names us stands in a term that we took, or tried to take."""
        held = self._held.token if self._held is not None else None
        return record.transitions in (self._tried_token, held) or (self.leading and self._ours(record))

    def _continuing(self) -> bool:
        """Whether the record is a term of this pod's that nobody else's can have followed: not an edit by hand.

        A version that we do not know may be our own, its answer lost; or our old term, written over another's.
        """
        seen = self.observed
        if seen is None or seen.record is None or seen.record.holder != self.identity:
            return False
        record, held = seen.record, self._held
        if record.transitions == self._tried_token:
            return True
        if held is None or record.transitions != held.token:
            return False
        return record.resource_version == held.version or seen.at < held.until

    def _at_retry(self, act: Do, now: int, why: str) -> Step:
        if now < self._retry_at:
            return Step(Do.WAIT, self._retry_at, f"pausing before another attempt: {why}")
        return Step(act, now, why)

    def _lose(self, now: int, why: str) -> None:
        self.grant = self.renewal_margin = None
        self.changes_total += 1
        self._become(Role.OBSERVER, now, why)

    def _become(self, role: Role, now: int, reason: str) -> None:
        if role is not self.role:
            self.since = now
        self.role, self.reason = role, reason


def pod_of(identity: str) -> str:
    """`pod-0` of the Lease's holder `pod-0_1f2e3d4c`."""
    return identity.rpartition("_")[0] or identity


def may_hold(elector: ElectorState) -> bool:
    """Whether an elector that is asked to stop needs the others yet: it holds the Lease, or may find that it does."""
    return elector.role in (Role.LEADER, Role.HANDOVER) or bool(elector.letting_go) or not elector.settled
