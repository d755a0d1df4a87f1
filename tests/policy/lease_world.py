"""A Lease on a linearizable server and electors that contend for it, each with a clock of its own rate.

Requests take time, may be lost on the way there or on the way back, and are compared-and-swapped by version.
Nodes obey grants as the actuator does: off at the soft deadline of the last grant they heard of.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass, field

from ipc.messages import Fence, Role
from policy import timing
from policy.election import Circumstances, Do, Election, Held
from policy.lease import LeaseRecord, Observed, Renewals
from policy.seal import seal_of

S = timing.SECOND
MS = timing.MILLISECOND


@dataclass
class Server:
    """One Lease object, linearizable."""

    record: LeaseRecord | None = None
    version: int = 0
    made: int = 0
    """Times the object was created."""
    history: list[tuple[int, LeaseRecord | None]] = field(default_factory=list)
    """Every version and what it says; None: deleted."""
    paused: str = ""
    """An operator's pause, in the record from the next write on."""

    def write(
        self,
        expected: str | None,
        holder: str,
        transitions: int,
        duration_s: int | None = None,
        *,
        seal: str | None = None,
        key: str = "",
        left_to: str = "",
        renewed: str | None = None,
    ) -> LeaseRecord | None:
        """Compare and swap; None is a conflict.  `expected` None: create.  `seal`, `renewed` None: left, by hand."""
        current = self.record.resource_version if self.record is not None else None
        if current != expected:
            return None
        self.version += 1
        if duration_s is None:
            duration_s = 15 if holder else 1
        if current is None:
            self.made += 1
        if seal is None:
            seal = self.record.seal if self.record is not None else ""
        if renewed is None:
            renewed = self.record.renew_time if self.record is not None else ""
        uid = str(self.made)
        self.record = LeaseRecord(str(self.version), holder, duration_s, transitions, uid=uid, seal=seal, key=key)
        self.record = dataclasses.replace(self.record, paused=self.paused, preferred_holder=left_to, renew_time=renewed)
        self.history.append((self.version, self.record))
        return self.record

    def pause(self, text: str) -> None:
        """As an operator writes it: nothing else is changed."""
        self.paused = text
        if self.record is not None:
            self.version += 1
            self.record = dataclasses.replace(self.record, resource_version=str(self.version), paused=text)
            self.history.append((self.version, self.record))

    def delete(self) -> None:
        self.version += 1
        self.record = None
        self.history.append((self.version, None))


@dataclass
class Pod:
    """One elector with its node."""

    name: str
    server: Server
    rate: float = 1.0
    offset: int = 0
    fit: bool = True
    ready: bool = True
    gone: bool = False
    stopping: bool = False
    api: str = "ok"
    """ok, down (request lost), mute (answer lost), mute writes (of writes only), conflict (every write is refused)."""
    frozen: bool = False
    void_before: int = 0
    quiet_at: int = 0
    fence: Fence = Fence.FENCED
    granted_until: int = 0
    """Own clock: soft deadline of the last grant that the node's actuator heard of."""
    requests: dict[str, int] = field(default_factory=dict)
    next_at: int = 0
    held: Held | None = None
    seen: Observed | None = None
    renewals: Renewals = field(default_factory=Renewals)
    """Of this elector."""
    position: int = 0
    """The server's last version that this pod was told of."""

    def __post_init__(self) -> None:
        self.restart(0)

    def clock(self, true: int) -> int:
        return int(true * self.rate) + self.offset + 1000 * S

    def restart(self, true: int, *, as_a_stranger: bool = False) -> None:
        """`as_a_stranger`: in a pod made anew, without the memory of an earlier life."""
        if as_a_stranger:
            self.held = self.seen = None
        self.renewals = Renewals()
        self.election = Election(
            self.name,
            lease_duration_s=15,
            sleep_interval=5 * S,
            held=self.held,
            now=self.clock(true),
            seen=self.seen,
        )
        self.next_at = 0

    def world(self) -> Circumstances:
        return Circumstances(
            fit=self.fit,
            unfit_for=0 if self.fit else 11 * S,
            unfit_why="tip",
            ready=self.ready and self.fence is not Fence.FENCING,
            not_ready_why="source missing",
            fence=self.fence,
            void_before=self.void_before,
            node_gone=self.gone,
            stopping=self.stopping,
            quiet_at=self.quiet_at,
            paused=self._paused(),
        )

    def _paused(self) -> str:
        seen = self.election.observed
        return seen.record.paused if seen is not None and seen.record is not None else ""

    def turn(self, true: int) -> None:
        """One turn of the elector's loop and of the actuator's."""
        if self.frozen:
            self._fence_by_clock(true)
            return
        now = self.clock(true)
        if now >= self.next_at:
            step = self.election.next(now, self.world())
            if step.act is Do.WAIT:
                self.next_at = min(step.until, now + S // 5)
            else:
                self._request(step.act, now)
        self.held, self.seen = self.election.held, self.election.observed
        self._actuate(true)

    def _request(self, act: Do, now: int) -> None:
        self.requests[act.value] = self.requests.get(act.value, 0) + 1
        if self.api == "down":
            self._fail(now, conflict=False)
            return
        seen = self.election.observed.record if self.election.observed is not None else None
        version = seen.resource_version if seen is not None else None
        if act is Do.READ:
            if self.api == "mute":
                self._fail(now, conflict=False)
            else:
                self._look(now)
            return
        if self.api == "conflict":
            self._fail(now, conflict=True)
            return
        transitions = self.election.begin(act)
        key = f"{self.name} {transitions}"
        renewed = f"{id(self)} {now}"  # a copy of this pod writes others
        self.renewals.wrote(renewed, over=seen)
        if act is Do.RELEASE:
            left_to = self.election.leaves_to
            written = self.server.write(
                version, "", transitions, seal=seal_of(key), key=key, left_to=left_to, renewed=renewed
            )
        else:
            written = self.server.write(version, self.name, transitions, seal=seal_of(key), renewed=renewed)
        if self.api in ("mute", "mute writes"):
            self._fail(now, conflict=False)
        elif written is None:
            self._fail(now, conflict=True)
        else:
            self.position = self.server.version
            if act is Do.RELEASE:
                self.election.released(written, now)
            else:
                self.election.wrote(written, sent_at=now, now=now)

    def _fail(self, now: int, *, conflict: bool) -> None:
        self.election.failed(now, conflict=conflict, pause=timing.RETRY_PAUSE)

    def watch(self, true: int) -> None:
        """The watch delivers what the server has, to a contender whose API works."""
        if not self.frozen and self.api == "ok" and not self.election.leading and self.election.observed is not None:
            self._told(self.clock(true))
            self.next_at = 0

    def _look(self, now: int) -> None:
        """As the elector does: what came in between is told too, or is said to be missing."""
        record, known = self.server.record, self.election.observed
        missed = known is not None and (record is None or record != known.record)
        if known is not None and missed and record is not None and not self.election.leading:
            self._told(now)
            missed = False
        self._saw(record, now, missed=missed, read=True)
        self.position = self.server.version

    def _told(self, now: int) -> None:
        for version, record in self.server.history:
            if version > self.position:
                self._saw(record, now)
        self.position = self.server.version

    def _saw(self, record: LeaseRecord | None, now: int, *, missed: bool = False, read: bool = False) -> None:
        self.election.saw(record, now, missed=missed, read=read, foreign=self.renewals.is_foreign(record))

    def _actuate(self, true: int) -> None:
        now = self.clock(true)
        if not self.election.settled:
            self._fence_by_clock(true)
            return
        grant = self.election.published_grant(now)
        if grant is not None and not self.gone and self.ready and now < timing.soft_deadline(grant.deadline):
            self.granted_until = timing.soft_deadline(grant.deadline)
            self.fence = Fence.ARMED
        else:
            self.fence = Fence.FENCED

    def _fence_by_clock(self, true: int) -> None:
        """The elector stands still; the actuator's own deadline does not."""
        if self.clock(true) >= self.granted_until:
            self.fence = Fence.FENCED

    @property
    def forging(self) -> bool:
        return self.fence is Fence.ARMED


@dataclass
class Pool:
    """Pods around one server on one true clock, in steps of 20 ms."""

    pods: list[Pod]
    server: Server
    true: int = 0
    overlap: int = 0
    without: int = 0
    at_most: int = 1
    """More only where two at once are what is looked at."""

    @classmethod
    def of(cls, n: int, *, unheld: bool = True, seed: int = 0) -> Pool:
        server = Server()
        if unheld:
            server.write(None, "", 0)
        dice = random.Random(seed)
        rates = [1.0 + dice.uniform(-0.0045, 0.0045) for _ in range(n)]
        return cls([Pod(f"pod-{i}", server, rates[i], dice.randrange(10**12)) for i in range(n)], server)

    def run(self, seconds: float) -> None:
        end = self.true + int(seconds * S)
        while self.true < end:
            self.true += 20 * MS
            for pod in self.pods:
                pod.turn(self.true)
            for pod in self.pods:
                pod.watch(self.true)
            count = sum(pod.forging for pod in self.pods)
            self.overlap += (count > 1) * 20 * MS
            self.without += (count == 0) * 20 * MS
            assert count <= self.at_most, [(p.name, p.election.role, p.election.reason) for p in self.pods]

    def leader(self) -> Pod:
        (pod,) = [p for p in self.pods if p.forging]
        return pod

    def roles(self) -> list[Role]:
        return [p.election.role for p in self.pods]
