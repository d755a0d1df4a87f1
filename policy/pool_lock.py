"""The pool-wide lock: a Lease on one coordination API, or a majority of Leases on several.

`PoolLock` is told what each member (one coordination API) shows and answered, and what the arbiter wishes; it says
what to ask of each member next, and what right follows.  It keeps the invariants

- a grant is given only while a majority of the members has confirmed a renewal of *this* term, each counted from
  before its request was sent; it ends when the first of the confirmations ends without which there is no majority;
- a member is written over only when nobody can have a right from it: its last term was released by whoever knows what
  opens its seal, or a whole lease duration has passed here since anything about it changed; after a gap in what we
  saw (first look, a forgotten history, a server restored from a backup) that duration begins anew;
- once a grant was given in a term, nothing is released before the actuator has said that the node is fenced and that
  it has heard of the withdrawal; a term of which anything was released gives no right any more.

**Why two never hold it.**  Two majorities have a member in common.  Its Lease is one object with compare-and-swap, so
one of the two wrote it after the other, and that one waited until the earlier one's right from this member had ended
or was released.  A member that was restored from a backup may show an older Lease; whoever saw the newer one notices
(the version went back), whoever did not has not watched long enough to take anything.  The fencing token is one more
than any that was ever seen on any member, and is kept over restarts: a restored member does not make it fall.

**Contenders.**  A term begins only if a majority looks takeable.  Members are taken in one order, the same for all, so
that mostly the first decides; who cannot get a majority gives back what he took (he never forged on it) and pauses for
a random time that grows.

**One set.**  All of this holds among pods that count the same members.  So each member tells which API it is, a holder
writes down on each which ones it counts.  A pod that finds one API under two names, or a Lease whose last holder
counted other members, takes nothing; while such a holder may be alive it also lets go of what it has.

Pure: no I/O, no clock, no chance: keys and pauses come in.  All instants are ns of CLOCK_BOOTTIME.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ipc.messages import Grant, LockPhase
from policy import timing
from policy.election import Do, Step
from policy.lease import LeaseRecord, Observed, observe, seen_lately
from policy.seal import half_of

LONGEST_ROUND: Final = 4 * timing.SECOND
"""An attempt to get a majority that takes longer is given up; with a short lease sooner: `round_lasts`."""
RELEASE_PATIENCE: Final = 3 * timing.SECOND
"""A member that cannot be reached is not waited for: its Lease runs out, or is released when it answers again."""
PAUSE: Final = timing.SECOND // 2
"""After a first failed attempt, up to this; doubled with each further one."""
MOST_DOUBLINGS: Final = 5
MOST_SPENT: Final = 4
MOST_AHEAD: Final = 10_000
"""So much higher than any on a Lease may a token be that only a status tells."""
MOST_TOKEN: Final = 2**31 - 1
"""leaseTransitions is an int32."""


@dataclass(frozen=True, slots=True)
class Term:
    """One possession of the lock, complete or attempted."""

    token: int
    key: str
    """Opens the seal that stands in each member's Lease."""
    began: int

    @property
    def seal(self) -> str:
        return half_of(self.key)


@dataclass(slots=True)
class Member:
    """One coordination API's Lease, as we know it."""

    name: str
    api: str = ""
    """Which API it is, whatever its name here (`kube.leases.LeaseClient.api_identity`); empty: it has not told yet."""
    observed: Observed | None = None
    must_read: bool = True
    retry_at: int = 0
    renewed_at: int = 0
    """When our last confirmed write of this term was sent; 0: none."""
    given_up_at: int = 0
    """When an attempt to write it failed; counts for one acquisition."""
    reachable: bool = False
    """It answered last."""
    read_at: int = 0
    """When it was read last, and not only told of by a watch (ns)."""
    foreign: bool = False
    """It was last renewed by another, perhaps in our name."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the arbiter wants, and what it knows of the node."""

    want: bool
    """This pod shall hold the lock: take it in its turn, or keep it."""
    delay: int = 0
    """ns to leave to better clusters, once the lock can be taken."""
    hurry: bool = False
    """It was left to us: there is nobody to contend with, so take all members at once."""
    fenced: bool = False
    """The actuator is fenced, and has heard that the last grant was withdrawn."""
    void_before: int = 0
    """Renewals sent at or before this instant count for nothing (the wall clock jumped)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the next life of the arbiter must know."""

    phase: LockPhase = LockPhase.IDLE
    term: Term | None = None
    spent: tuple[Term, ...] = ()
    """The last terms that are over, of which something may have been left behind."""
    over: bool = False
    granted: Grant | None = None
    withdrawn: int = 0
    highest: int = 0


def round_lasts(lease_duration: int) -> int:
    """How long an attempt to get a majority may take: two of them are over before a lease duration is.  All in ns."""
    return min(LONGEST_ROUND, lease_duration * 9 // 20)


def one_set(*told: tuple[int, tuple[str, ...]]) -> bool:
    """Whether these can be one set of members: how many there are, and which of them are known."""
    counts = {count for count, _ in told}
    return len(counts) <= 1 and len({api for _, apis in told for api in apis}) <= max(counts, default=0)


def cluster_of(identity: str) -> str:
    """`east` of the lock's holder `east/pod-0_1f2e3d4c`."""
    return identity.partition("/")[0]


def _records(members: Iterable[Member]) -> list[LeaseRecord]:
    """The Leases of those that are known to have one."""
    return [m.observed.record for m in members if m.observed is not None and m.observed.record is not None]


class PoolLock:
    """One pod's part in the contention for the lock of its pool."""

    def __init__(
        self,
        identity: str,
        members: Sequence[str],
        *,
        lease_duration_s: int,
        sleep_interval: int,
        now: int,
        kept: Kept | None = None,
    ) -> None:
        """`identity`: of this pod instance, never used by another.  `kept`: of an earlier life in this boot."""
        self.identity = identity
        self.members = [Member(name) for name in members]
        self.apis: tuple[str, ...] = ()
        """Which APIs the members are, as far as they have told; sorted."""
        self.reason = "starting"
        self._duration = lease_duration_s * timing.SECOND
        self._duration_s = lease_duration_s
        self._interval = sleep_interval
        kept = kept or Kept()
        self.phase, self.term, self.spent, self.over = kept.phase, kept.term, kept.spent, kept.over
        self.granted = kept.granted
        self.withdrawn = kept.withdrawn
        self._highest = kept.highest
        self._since = self._held_since = now
        self.passed_over = ""
        """The cluster to which the lock was left when our term began; empty: to none, or to ours."""
        self._attempts = 0
        self._pause_until = 0
        self._strangers_until = 0
        """The Lease of a pod that counts other members went: it may forge by members that we do not see."""
        if self.phase is LockPhase.ACQUIRING:  # nothing was granted in it: what was taken is given back
            self._spend(now)

    @property
    def majority(self) -> int:
        return len(self.members) // 2 + 1

    @property
    def held_since(self) -> int:
        """When the lock became ours; 0: it is not, or is to be released."""
        return self._held_since if self.phase in (LockPhase.HELD, LockPhase.DRAINING) and not self.over else 0

    @property
    def kept(self) -> Kept:
        """To be written down after each change."""
        return Kept(self.phase, self.term, self.spent, self.over, self.granted, self.withdrawn, self._highest)

    @property
    def token(self) -> int:
        """The highest fencing token that was ever seen."""
        return self._highest

    def note_token(self, token: int) -> None:
        """A fencing token that is told elsewhere (in a cluster's status); nonsense uses no tokens up."""
        if token <= min(MOST_TOKEN, self._highest + MOST_AHEAD):
            self._highest = max(self._highest, token)

    # --- what happened ---

    def restore(self, index: int, observed: Observed, api: str) -> None:
        """What an earlier life saw last of a member; its instants are of this boot.  It must be read all the same."""
        self.members[index].observed = observed
        self.identified(index, api)

    def identified(self, index: int, api: str) -> None:
        """A member told which API it is: when it is first read, and whenever it may be another one."""
        member = self.members[index]
        if member.api != api:
            member.api, member.renewed_at = api, 0
            self.apis = tuple(sorted({each.api for each in self.members if each.api}))

    def saw(
        self,
        index: int,
        record: LeaseRecord | None,
        now: int,
        *,
        missed: bool = False,
        read: bool = False,
        more: bool = False,
        foreign: bool = False,
    ) -> None:
        """A member's Lease as read or watched; `missed`: it may have changed unseen in between.

        So it counts for one that was out of reach, though it shows what we know: it may come from a backup of just
        that, and others may have written over it meanwhile, or renewed it up to the same version.
        `more`: later versions are known to be told yet, so nothing follows from this one.
        `foreign`: its last renewal is none of ours, whomever it names: a copy of us (`policy.election`) may hold it, so
        it neither counts for us nor is released by us.
        """
        member = self.members[index]
        strange = self.differs(member)
        back = not member.reachable and (self._lapsed(now) or not self._names_us(record))
        member.observed = observe(member.observed, record, now, at_least_s=self._duration_s, missed=missed or back)
        member.must_read, member.reachable, member.foreign = more, True, foreign
        member.read_at = now if read else member.read_at
        if record is not None:
            self._highest = max(self._highest, min(record.transitions, MOST_TOKEN))
        if not self._is_ours(member) and not member.observed.orphaned:
            member.renewed_at = 0
        copied = foreign and self.term is not None and self._bears(member, self.term)
        if copied and sum(each.renewed_at > 0 for each in self.members) < self.majority:
            self.term = self.granted = None  # a copy of us has it from now on: neither revived nor released by us
        if strange and not self.differs(member):
            self._strangers_until = now + self._duration

    def wrote(self, index: int, record: LeaseRecord, *, sent_at: int, now: int) -> None:
        """Our CREATE, TAKE or RENEW succeeded; `sent_at` taken before the request left."""
        member = self.members[index]
        member.observed = Observed(record, now, displaced=member.observed.displaced if member.observed else ())
        member.must_read, member.reachable, member.retry_at, member.given_up_at = False, True, 0, 0
        member.foreign = False
        member.renewed_at = sent_at if self._is_ours(member) else 0

    def released(self, index: int, record: LeaseRecord, now: int) -> None:
        """Our RELEASE succeeded."""
        member = self.members[index]
        member.observed = Observed(record, now, displaced=member.observed.displaced if member.observed else ())
        member.must_read, member.reachable, member.retry_at = False, True, 0
        member.renewed_at = 0

    def failed(self, index: int, now: int, *, pause: int, answered: bool) -> None:
        """A request failed; `answered`: by a refusal (conflict).  The Lease must be read: a write may have arrived."""
        member = self.members[index]
        member.must_read, member.reachable = True, answered
        member.retry_at = now if answered and now - member.given_up_at >= timing.SECOND else now + pause
        member.given_up_at = now

    # --- what follows ---

    def grant(self, now: int) -> Grant | None:
        """The right to forge; None while there is none.  Call `update` first."""
        if self.phase is not LockPhase.HELD or self.granted is None or now >= self.granted.deadline:
            return None
        return self.granted

    def update(self, now: int, wish: Wish, *, key: str, chance: float) -> int:
        """Go on to the phase that follows; when to call again (ns).

        `key`: a new random one, for a term that begins now.  `chance`: random, from 0 to 1.
        """
        self._earn(now, wish.void_before)
        if wish.want and not self.sound(now):
            wish = replace(wish, want=False)
        match self.phase:
            case LockPhase.IDLE:
                self._while_idle(now, wish, key)
            case LockPhase.ACQUIRING:
                self._while_acquiring(now, wish, chance)
            case LockPhase.HELD:
                self._while_held(now, wish)
            case LockPhase.DRAINING:
                self._while_draining(now, wish)
        return self._look_again(now, wish)

    def _while_idle(self, now: int, wish: Wish, key: str) -> None:
        if not wish.want:
            self.reason = self.objection or "not wanted"
            return
        at = self._begins_at(wish)
        if now < max(at, self._pause_until):
            self.reason = "the lock cannot be taken yet" if now < at else "pausing after a failed attempt"
            return
        if self._highest >= MOST_TOKEN:
            self.reason = (
                "the fencing tokens are used up (somebody wrote leaseTransitions by hand): stop every pod of the pool, "
                "delete the pool's Lease on every member, and let the pods be made anew, without their RUN_DIR"
            )
            return
        self._highest += 1
        self.passed_over = self.preferred if self.preferred != cluster_of(self.identity) else ""
        self.term, self.over, self.granted = Term(self._highest, key, now), False, None
        for member in self.members:
            member.renewed_at = member.given_up_at = 0
        self._become(LockPhase.ACQUIRING, now, "taking the lock")

    def _begins_at(self, wish: Wish) -> int:
        """When a term may begin, as far as we have seen."""
        return max(self.available_at, self._strangers_until) + wish.delay

    def _while_acquiring(self, now: int, wish: Wish, chance: float) -> None:
        if self.granted is not None:
            self._attempts, self._held_since = 0, now
            self._become(LockPhase.HELD, now, "the lock is ours")
        elif not wish.want:
            self._spend(now)
        elif now - self._since >= round_lasts(self._duration) or not self._may_succeed(now):
            self._attempts += 1
            longest = PAUSE << min(self._attempts - 1, MOST_DOUBLINGS)
            self._pause_until = now + longest // 4 + int(longest * chance)
            self._spend(now)

    def _while_held(self, now: int, wish: Wish) -> None:
        alive = self.granted is not None and now < timing.soft_deadline(self.granted.deadline)
        if wish.want and alive:
            return
        self.withdrawn += 1
        self._become(LockPhase.DRAINING, now, "the lock was not renewed in time" if wish.want else "letting go")

    def _while_draining(self, now: int, wish: Wish) -> None:
        if not self.over and wish.fenced:
            self.over, self.granted, self._since = True, None, now
        if self.over:
            if not any(self._is_ours(member) for member in self.members) or now - self._since >= RELEASE_PATIENCE:
                self._spend(now)
            return
        if wish.want and self.granted is not None and now < timing.soft_deadline(self.granted.deadline):
            self._become(LockPhase.HELD, now, "the lock is ours still")
        elif now - self._since >= timing.HANDOVER_PATIENCE and self._nothing_stands(now):
            self.term, self.granted = None, None  # unproven: nobody may believe in a release
            self._become(LockPhase.IDLE, now, "let the lock run out")

    def _spend(self, now: int) -> None:
        """No right can come of this term any more: its Leases are given back wherever they can be."""
        if self.term is not None:
            self.spent = (*self.spent, self.term)[-MOST_SPENT:]
        self.term, self.granted, self.over = None, None, False
        for member in self.members:
            member.renewed_at = 0
        self._become(LockPhase.IDLE, now, "not ours")

    def _earn(self, now: int, void_before: int) -> None:
        """The grant that a majority's confirmations give."""
        term = self.term
        if term is None or self.over or self._lapsed(now):
            return
        confirmed = sorted((m.renewed_at for m in self.members if m.renewed_at > void_before), reverse=True)
        if len(confirmed) < self.majority:
            return
        renewed_at = confirmed[self.majority - 1]
        deadline = timing.grant_deadline(renewed_at, self._duration)
        if self.granted is None or deadline > self.granted.deadline:
            self.granted = Grant(self.identity, term.token, deadline, renewed_at, exclusive=True)

    def _lapsed(self, now: int) -> bool:
        """Whether others may have held the lock since our right ended, as the fastest clock counts (A2).

        Then nothing revives the term, though a member names it: that one may come from a backup.
        """
        lasts = self._duration - self._duration // timing.DRIFT_SHARE
        return self.granted is not None and now >= self.granted.renewed_at + lasts

    def _nothing_stands(self, now: int) -> bool:
        return all(now >= member.renewed_at + self._duration for member in self.members)

    def _may_succeed(self, now: int) -> bool:
        """Whether a majority may come of this attempt yet."""
        return sum(m.renewed_at > 0 or self._in_question(m, now) for m in self.members) >= self.majority

    def _in_question(self, member: Member, now: int) -> bool:
        """Whether this member may still become ours in this attempt."""
        if member.given_up_at or self.term is None:
            return False
        record = member.observed.record if member.observed is not None else None
        newer = record is not None and record.transitions >= self.term.token  # somebody has been there meanwhile
        return self._is_ours(member) or (not newer and now >= self.takeable_at(member))

    # --- what to ask of a member ---

    def next(self, index: int, now: int, wish: Wish) -> Step:
        """The next request to this member.  Call again after anything happened, and at `until`."""
        member = self.members[index]
        if member.must_read or member.observed is None:
            return self._at_retry(member, Do.READ, now, "the lease is not known")
        if self.left_behind(member) and not self._is_ours(member):
            return self._at_retry(member, Do.RELEASE, now, "left from a term that is over")
        if self._is_ours(member):
            if self.over:
                return self._at_retry(member, Do.RELEASE, now, "releasing the lock")
            unproven = self.phase is LockPhase.DRAINING and now - self._since >= timing.HANDOVER_PATIENCE
            stale = unproven or self._lapsed(now)
            due = now if member.renewed_at <= wish.void_before else member.renewed_at + self._interval
            if now >= due and not stale:
                return self._at_retry(member, Do.RENEW, now, "renewal is due")
            return Step(Do.WAIT, due if not stale else now + timing.SECOND, "renewal is not due")
        standing = self.grant(now) is not None
        if standing and now < self.ours_until(member):
            # Erased or deleted by hand: nobody else may write it before our right has ended.
            act = Do.CREATE if member.observed.record is None else Do.TAKE
            return self._at_retry(member, act, now, "it was taken from us without being given to another")
        if self._silent_for_long(member, now):
            return self._at_retry(member, Do.READ, now, "its holder's renewals have not been told")
        if self._may_take(member, now) and not seen_lately(member.observed, member.read_at, now):
            return self._at_retry(member, Do.READ, now, "it was seen too long ago to be taken")
        # A term whose grant has lapsed takes nothing: another, with a higher token, may have come and gone.
        if standing or (self.phase is LockPhase.ACQUIRING and self._turn(index, now, wish)):
            at = self.takeable_at(member)
            if now >= at:
                act = Do.CREATE if member.observed.record is None else Do.TAKE
                return self._at_retry(member, act, now, "it can be taken")
            return Step(Do.WAIT, min(at, now + timing.SECOND), "it cannot be taken yet")
        return Step(Do.WAIT, now + timing.SECOND, "nothing to do")

    def _silent_for_long(self, member: Member, now: int) -> bool:
        """Whether its holder should have been seen to renew it by now: it died, or our watch has.

        A server that was restored from a backup says nothing to a watch before it has counted up to where that stands.
        Who finds out when he wants to take the Lease begins to wait for it only then: a lease duration lost.
        """
        seen = member.observed
        if seen is None or seen.record is None or not seen.record.holder or now >= self.takeable_at(member):
            return False
        return now - max(seen.at, member.read_at) >= max(self._duration // 2, self._interval * 3 // 2)

    def _may_take(self, member: Member, now: int) -> bool:
        """Whether it is to be taken from whoever had it last, now or in its turn."""
        if member.observed is None or member.observed.record is None:
            return False  # to make one that is there is refused
        if self.phase is LockPhase.ACQUIRING:
            return self._in_question(member, now)
        return self.grant(now) is not None and now >= self.takeable_at(member)

    def _turn(self, index: int, now: int, wish: Wish) -> bool:
        """Whether all members before this one have been taken, or cannot be."""
        if not self._in_question(self.members[index], now):
            return False
        before = self.members[:index]
        return wish.hurry or all(m.renewed_at > 0 or not self._in_question(m, now) for m in before)

    def transitions(self, index: int) -> int:
        """The leaseTransitions to write: the token; more where somebody has failed to get a majority with a higher."""
        seen = self.members[index].observed
        there = seen.record.transitions if seen is not None and seen.record is not None else 0
        return max(there, self.term.token if self.term is not None else 0)

    def takeable_at(self, member: Member) -> int:
        """From when on nobody else can have a right from this member, as it was seen; far off: not known."""
        seen = member.observed
        if seen is None or member.must_read or not member.api or self.namesakes(member) or self.differs(member):
            return timing.NEVER
        if seen.free:
            return seen.displaced_until
        return max(seen.at + max(seen.duration_s * timing.SECOND, self._duration), seen.displaced_until)

    def namesakes(self, member: Member) -> list[str]:
        """The names of the other members that are the same API: they would count it twice."""
        return [each.name for each in self.members if each is not member and member.api and each.api == member.api]

    def differs(self, member: Member) -> bool:
        """Whether this member's Lease was written by a pod that counts a majority of other members than this one.

        Two majorities of different sets need not meet.  To change the set, stop every pod and delete the Leases.
        """
        record = member.observed.record if member.observed is not None else None
        if record is None or not record.members or self._names_us(record):
            return False
        if record.members == len(self.members) and record.apis == self.apis:
            return False  # as nearly always, and asked many times a second
        return not one_set((record.members, record.apis), (len(self.members), self.apis))

    def sound(self, now: int) -> bool:
        """Whether a majority of the members means something, as far as we can see: the lock may be taken, or kept."""
        if len(self.apis) < sum(bool(member.api) for member in self.members):
            return False  # two are the same
        if self.phase in (LockPhase.HELD, LockPhase.DRAINING):
            return not any(self._held_otherwise(member, now) for member in self.members)
        return not any(self.differs(member) for member in self.members)

    def _held_otherwise(self, member: Member, now: int) -> bool:
        seen = member.observed
        if seen is None or seen.record is None or not seen.record.holder or not self.differs(member):
            return False
        return now < seen.at + max(seen.duration_s * timing.SECOND, self._duration)

    @property
    def objection(self) -> str:
        """What is wrong with the set of members, and the remedy; empty: nothing that we can see."""
        for member in self.members:
            if others := self.namesakes(member):
                return (
                    f"{' and '.join((member.name, *others))} are the same API server: name each once in "
                    "COORDINATION_KUBECONFIGS"
                )
        for member in self.members:
            if self.differs(member):
                record = member.observed.record if member.observed is not None else None
                count = record.members if record is not None else 0
                counts = f"{count} coordination APIs, this one {len(self.members)}"
                if count == len(self.members):
                    counts = "other coordination APIs than this one"
                return (
                    f"the lock on {member.name} was written by a pod that counts {counts}: set "
                    "COORDINATION_KUBECONFIGS alike on every pod of the pool; if it is, stop all of them in every "
                    "region, and only then delete that Lease"
                )
        return ""

    @property
    def available_at(self) -> int:
        """Since when, or from when on, a majority can be taken, as it was seen; far off: not known."""
        found = [max(self.takeable_at(m), m.observed.at if m.observed is not None else 0) for m in self.members]
        return sorted(found)[self.majority - 1]

    @property
    def unsure_until(self) -> int:
        """Until then not even a release by its holder would let us take a majority at once; 0: it would."""
        if self.phase is not LockPhase.IDLE:
            return 0
        sure_at = sorted(self._unsure_until(member) for member in self.members)[self.majority - 1]
        return max(sure_at, self._strangers_until)

    def could_take(self, now: int) -> bool:
        """Whether we have the lock, or could take it at once if its holder released it now."""
        return self.phase is not LockPhase.IDLE or now >= self.unsure_until

    @staticmethod
    def _unsure_until(member: Member) -> int:
        seen = member.observed
        if seen is None or member.must_read:
            return timing.NEVER
        named = seen.record.seal if seen.record is not None else ""
        others = [until for seal, until in seen.displaced if seal != named]
        return max(*others, seen.at + seen.duration_s * timing.SECOND if seen.orphaned else 0, 0)

    def holder(self, now: int) -> str:
        """Whom a majority of the members names and could not be written over yet; empty: nobody."""
        standing = [m for m in self.members if now < self.takeable_at(m)]
        return self._agreed([record.holder for record in _records(standing)])

    def seen_at(self, holder: str) -> int:
        """When a member that names this holder (empty: nobody) was last seen to change (ns); 0: none names it."""
        seen = [m.observed for m in self.members if m.observed is not None and m.observed.record is not None]
        named = [each.at for each in seen if each.record is not None and each.record.holder == holder]
        return max(named, default=0)

    @property
    def pauses(self) -> tuple[str, ...]:
        """What each member that is known says of a pause (`policy.pause`)."""
        return tuple(record.paused for record in _records(self.members))

    @property
    def last_cluster(self) -> str:
        """The cluster that has or had the lock, or to which it was left, as a majority says; empty: it is anybody's."""
        return self._agreed([record.kept_for(cluster_of) for record in _records(self.members)])

    @property
    def preferred(self) -> str:
        """The cluster to which the last holder left the lock, as a majority of the members says; empty: none."""
        return self._agreed([record.preferred_holder for record in _records(self.members)])

    def _agreed(self, names: Sequence[str]) -> str:
        """What a majority of the members says; empty: no such thing."""
        return next((name for name in names if name and names.count(name) >= self.majority), "")

    def ours_until(self, member: Member) -> int:
        """End of the right that this member confirmed; 0: none."""
        return timing.grant_deadline(member.renewed_at, self._duration) if member.renewed_at else 0

    def _is_ours(self, member: Member) -> bool:
        """Whether its Lease stands in this term's name."""
        return self.term is not None and self._sealed_by(member, self.term)

    def left_behind(self, member: Member) -> bool:
        """Whether its Lease stands in the name of a term of ours that is over."""
        return self.left_behind_by(member) is not None

    def left_behind_by(self, member: Member) -> Term | None:
        """The term of ours that is over in whose name this member's Lease stands; None: it does not."""
        return next((term for term in self.spent if self._sealed_by(member, term)), None)

    def _sealed_by(self, member: Member, term: Term) -> bool:
        return self._bears(member, term) and not member.foreign

    def _bears(self, member: Member, term: Term) -> bool:
        """Whether its Lease has our name and the seal of this term: it may be a copy of us that wrote it."""
        record = member.observed.record if member.observed is not None else None
        return record is not None and record.holder == self.identity and record.seal == term.seal

    def _names_us(self, record: LeaseRecord | None) -> bool:
        return record is not None and record.holder == self.identity

    def _at_retry(self, member: Member, act: Do, now: int, why: str) -> Step:
        if now < member.retry_at:
            return Step(Do.WAIT, member.retry_at, f"pausing before another attempt: {why}")
        return Step(act, now, why)

    def _look_again(self, now: int, wish: Wish) -> int:
        until = now + timing.SECOND
        if self.phase is LockPhase.IDLE and wish.want and self._highest < MOST_TOKEN:
            until = min(until, max(self._begins_at(wish), self._pause_until, now + timing.MILLISECOND))
        if self.phase is LockPhase.HELD and self.granted is not None:
            until = min(until, max(timing.soft_deadline(self.granted.deadline), now + timing.MILLISECOND))
        return until

    def _become(self, phase: LockPhase, now: int, reason: str) -> None:
        if phase is not self.phase:
            self._since = now
        self.phase, self.reason = phase, reason
