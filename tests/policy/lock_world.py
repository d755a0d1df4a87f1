"""Contenders for the pool-wide lock around several coordination APIs, each with a clock of its own rate.

The members are linearizable Leases with compare-and-swap; requests and answers take time, arrive late or not at all;
watches fall silent; contenders freeze, restart from what they kept, or come back as strangers; members are restored
from backups.  The nodes obey the last grant that they heard of, and are killed at its hard deadline.  One seed, one
story.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from ipc.messages import Grant, LockPhase
from policy import timing
from policy.election import Do
from policy.lease import LeaseRecord, Observed
from policy.pool_lock import Kept, PoolLock, Wish

S = timing.SECOND
MS = timing.MILLISECOND
D = 15
LATEST = 2**62


@dataclass
class Server:
    """One coordination API's Lease."""

    name: str
    record: LeaseRecord | None = None
    version: int = 0
    made: int = 0
    history: list[tuple[int, LeaseRecord | None]] = field(default_factory=list)
    up: bool = True
    restoring: bool = False
    boots: int = 0
    """Times it was restored: watches of before are dead."""
    writes: int = 0
    """A restore does not take them back."""

    def write(self, expected: str | None, new: LeaseRecord) -> LeaseRecord | None:
        """Compare and swap; None: a conflict.  `expected` None: create."""
        if (self.record.resource_version if self.record is not None else None) != expected:
            return None
        self.version += 1
        if self.record is None:
            self.made += 1
        uid = f"{self.boots}.{self.made}" if self.record is None else self.record.uid
        self.writes += 1
        self.record = dataclasses.replace(new, resource_version=str(self.version), uid=uid, renew_time=str(self.writes))
        self.history.append((self.version, self.record))
        return self.record

    def delete(self) -> None:
        if self.record is not None:
            self.version += 1
            self.record = None
            self.history.append((self.version, None))

    def backup(self) -> tuple[LeaseRecord | None, int, int]:
        return self.record, self.version, len(self.history)

    def restore(self, backup: tuple[LeaseRecord | None, int, int]) -> None:
        self.record, _, kept = backup
        self.version += 1000  # no version is given twice (etcdutl: --bump-revision)
        del self.history[kept:]
        self.boots += 1


@dataclass
class Line:
    """How one contender stands to one member."""

    position: int = 0
    busy: int = 0
    """Number of the request under way; 0: none."""
    watching: bool = False
    boot: int = 0
    told: int = 0
    """Up to when the watch has delivered (true time)."""
    way: str = "ok"
    """ok, cut (requests are lost), mute (answers are lost), deaf (watches are silent)."""


@dataclass
class Node:
    """A node and its actuator.  Own clock."""

    grant: Grant | None = None
    forges: bool = False
    heard: int = 0
    """Count of withdrawals that the actuator has heard of."""
    fenced: bool = True
    silent: bool = False
    number: int = 0

    def forges_still(self, now: int) -> bool:
        """The kernel stops it at the hard deadline."""
        if self.grant is None or now >= self.grant.deadline:
            self.forges, self.fenced = False, True
        return self.forges


class Contender:
    """One pod's arbiter, its node, and its clock."""

    def __init__(self, name: str, world: World, rate: float, offset: int) -> None:
        self.name, self.world, self.rate, self.offset = name, world, rate, offset
        self.node = Node()
        self.nodes = [self.node]
        """Also those of earlier pods of this cluster, perhaps forging still."""
        self.lines = [Line() for _ in world.servers]
        self.want, self.delay, self.hurry = True, 0, False
        self.frozen_until = 0
        self.void_before = 0
        self.life = self.terms = self.pods = 0
        self.told_fenced = False
        self.told_heard = 0
        self.kept = Kept()
        self.seen: list[Observed | None] = [None for _ in world.servers]
        self.positions = [0 for _ in world.servers]
        self.published: Grant | None = None
        self.told: tuple[Grant | None, int] | None = None
        """What the actuator was told last."""
        self.wakes_at = LATEST
        self.born()

    def clock(self) -> int:
        return int(self.world.true * self.rate) + self.offset

    def true_of(self, own: int) -> int:
        return int((own - self.offset) / self.rate) + 1

    def born(self, *, with_observations: bool = True) -> None:
        self.life += 1
        self.lock = PoolLock(
            f"{self.name}/{self.pods}",
            [server.name for server in self.world.servers],
            lease_duration_s=D,
            sleep_interval=5 * S,
            now=self.clock(),
            kept=self.kept,
        )
        for index, line in enumerate(self.lines):
            line.busy, line.watching, line.position = 0, False, 0
            seen = self.seen[index]
            if with_observations and seen is not None and self.positions[index]:
                self.lock.restore(index, seen, self.world.servers[index].name)
                line.position = self.positions[index]
        self.told_fenced, self.told = False, None
        self.wake_in(0)

    def reborn_as_a_stranger(self) -> None:
        """Another pod: its node is new; the old one may go on until the kernel stops it."""
        self.node = Node()
        self.nodes = [self.node, *(node for node in self.nodes if node.forges)]
        self.pods += 1
        self.kept = Kept(highest=self.kept.highest) if self.world.restores else Kept()
        self.seen = [None for _ in self.seen]
        self.positions = [0 for _ in self.positions]
        self.published, self.told_heard = None, 0
        self.born()

    # --- turns ---

    def wake_in(self, delay: int) -> None:
        at = max(self.world.true + delay, self.frozen_until)
        if at < self.wakes_at:
            self.wakes_at = at
            self.world.at(at, lambda: self._wake(at))

    def _wake(self, at: int) -> None:
        if at != self.wakes_at:
            return
        self.wakes_at = LATEST
        if self.world.true < self.frozen_until:
            self.wake_in(0)
            return
        dice, until = self.world.dice, LATEST
        if dice.random() < 0.3:  # a member's task may run before the arbiter looks again
            self._serve(dice.randrange(len(self.lines)))
            until = self.clock() + dice.randrange(50 * MS)
        else:
            until = self._judge()
            for index in range(len(self.lines)):
                until = min(until, self._serve(index))
        self.wake_in(max(self.true_of(until) - self.world.true, MS))

    def wish(self) -> Wish:
        fenced = self.told_fenced and self.lock.withdrawn > 0 and self.told_heard == self.lock.withdrawn
        return Wish(self.want, self.delay, self.hurry, fenced, self.void_before)

    def _judge(self) -> int:
        now = self.clock()
        self.terms += 1
        if self.world.restores:
            self.lock.note_token(self.world.highest)  # the clusters' status tells it
        key = f"key {self.name} {self.pods} {self.life} {self.terms}"
        until = self.lock.update(now, self.wish(), key=key, chance=self.world.dice.random())
        self._remember()
        grant = self.lock.grant(now)
        if grant is not None and grant is not self.published:
            self.world.granted(grant)
        self.published = grant
        if (grant, self.lock.withdrawn) != self.told:
            self.told = grant, self.lock.withdrawn
            self.world.tell(self, grant, self.lock.withdrawn)
        return until

    def _remember(self) -> None:
        self.kept = self.lock.kept
        self.seen = [member.observed for member in self.lock.members]
        self.positions = [line.position for line in self.lines]

    def _serve(self, index: int) -> int:
        line, lock, now = self.lines[index], self.lock, self.clock()
        if line.busy:
            return LATEST
        step = lock.next(index, now, self.wish())
        if step.act is Do.WAIT:
            member = lock.members[index]
            if not line.watching and not member.must_read and now >= member.retry_at:
                self.world.watch(self, index)
            return min(step.until, now + S)
        self.world.request(self, index, step.act)
        return LATEST

    # --- answers ---

    def looked(
        self, index: int, record: LeaseRecord | None, version: int, history: list[tuple[int, LeaseRecord | None]]
    ) -> None:
        """As the worker reads: what came in between is told too, or said to be missing."""
        line, member, now = self.lines[index], self.lock.members[index], self.clock()
        known = member.observed
        missed = known is not None and (record is None or record != known.record)
        before = known.record if known is not None else None
        older = (
            record is not None
            and before is not None
            and record.uid == before.uid
            and int(record.resource_version) < int(before.resource_version)
        )
        self.lock.identified(index, self.world.servers[index].name)
        if version < line.position or older:
            missed = True
        elif missed and record is not None and line.position and self.world.dice.random() < 0.8:
            for at, each in history:
                if at > line.position:
                    self.lock.saw(index, each, now)
                    missed = each != record
        self.lock.saw(index, record, now, missed=missed, read=True)
        line.position = version

    def watched(self, index: int, version: int, record: LeaseRecord | None) -> None:
        line = self.lines[index]
        if version > line.position:
            self.lock.saw(index, record, self.clock())
            line.position = version
            self._remember()
            self.wake_in(0)

    @property
    def authority(self) -> bool:
        return self.lock.grant(self.clock()) is not None


class World:
    """All of it, on one true clock."""

    outage = True
    """Whether a restoration takes longer than a lease."""

    def __init__(self, seed: int, *, members: int, contenders: int, restores: bool = False) -> None:
        self.dice = random.Random(seed)
        self.true = 1000 * S
        self.restores = restores
        self.servers = [Server(f"m{i}") for i in range(members)]
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.numbers = itertools.count(1)
        self.story: list[str] = []
        self.grants: dict[int, str] = {}
        self.highest = 0
        self.calm = False
        self.slow = 0.05
        dice = self.dice
        self.contenders: list[Contender] = []
        for i in range(contenders):
            rate = 1 + dice.uniform(-0.0025, 0.0025)
            self.contenders.append(Contender(f"c{i}", self, rate, dice.randrange(10**13)))

    def at(self, when: int, what: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (when, next(self.numbers), what))

    def note(self, text: str) -> None:
        self.story.append(f"{self.true / S - 1000:9.3f} {text}")

    def run(self, seconds: float) -> None:
        end = self.true + int(seconds * S)
        while self.queue and self.queue[0][0] <= end:
            when, _, what = heapq.heappop(self.queue)
            self.true = max(self.true, when)
            what()
            self.check()
        self.true = end

    def check(self) -> None:
        having, forging = [], []
        for contender in self.contenders:
            now = contender.clock()
            if contender.lock.phase is LockPhase.HELD and contender.lock.grant(now) is not None:
                having.append(contender.name)
            forging += [contender.name for node in contender.nodes if node.forges and node.forges_still(now)]
        if len(having) > 1 or len(forging) > 1:
            self.fail(f"authority: {having}, forging: {forging}")

    def fail(self, what: str) -> NoReturn:
        raise AssertionError("\n".join([what, *self.story[-80:]]))

    def granted(self, grant: Grant) -> None:
        """Tokens of terms with a grant rise."""
        whose = self.grants.get(grant.fencing_token)
        if whose is None:
            self.note(f"{grant.holder} has token {grant.fencing_token}")
        if grant.fencing_token < self.highest or whose not in (None, grant.holder):
            self.fail(f"token: {grant.fencing_token} for {grant.holder} after {self.highest}")
        self.highest = grant.fencing_token
        self.grants[grant.fencing_token] = grant.holder

    # --- the node ---

    def tell(self, contender: Contender, grant: Grant | None, withdrawn: int) -> None:
        """The actuator hears of the arbiter's state, and the arbiter of the actuator's."""
        node = contender.node
        node.number += 1
        number = node.number
        delay = self.dice.randrange(100 * MS)
        self.at(self.true + delay, lambda: self._hears(contender, node, number, grant, withdrawn))

    def _hears(self, contender: Contender, node: Node, number: int, grant: Grant | None, withdrawn: int) -> None:
        if number != node.number or node.silent or node is not contender.node:
            return
        now = contender.clock()
        if (
            grant is not None
            and now < timing.soft_deadline(grant.deadline)
            and grant.renewed_at > contender.void_before
        ):
            node.grant, node.forges, node.fenced = grant, True, False
            node.heard = withdrawn
            contender.told_fenced = False
            return
        node.heard = withdrawn
        if not node.fenced:
            self.at(self.true + self.dice.randrange(1500 * MS), lambda: self._fences(contender, node))
        else:
            self._reports(contender, node)

    def _fences(self, contender: Contender, node: Node) -> None:
        current = contender.published if node is contender.node else None
        if node.forges and current is not None and contender.clock() < timing.soft_deadline(current.deadline):
            return  # it was granted again meanwhile
        node.forges, node.fenced, node.grant = False, True, None
        if not node.silent:
            self._reports(contender, node)

    def _reports(self, contender: Contender, node: Node) -> None:
        heard = node.heard
        self.at(self.true + self.dice.randrange(100 * MS), lambda: self._reported(contender, node, heard))

    def _reported(self, contender: Contender, node: Node, heard: int) -> None:
        if node is contender.node and node.fenced and not node.silent:
            if (contender.told_fenced, contender.told_heard) == (True, heard):
                return
            contender.told_fenced, contender.told_heard = True, heard
            contender.wake_in(0)

    # --- requests ---

    def _takes(self) -> int:
        if not self.calm and self.dice.random() < self.slow:
            return self.dice.randrange(4 * S)
        return self.dice.randrange(2 * MS, 60 * MS)

    def request(self, contender: Contender, index: int, act: Do) -> None:
        line, lock, life = contender.lines[index], contender.lock, contender.life
        number = line.busy = next(self.numbers)
        if act is Do.READ:
            line.watching = False
        sent = contender.clock()
        there = self._takes()
        body = self._body(lock, index, act)
        seen = lock.members[index].observed
        known = seen.record if seen is not None else None
        version = known.resource_version if known is not None else None

        def arrives() -> None:
            server = self.servers[index]
            if line.way == "cut" or not server.up:
                return
            answer: Callable[[], None]
            if act is Do.READ:
                record, at, history, boot = server.record, server.version, list(server.history), server.boots

                def answer() -> None:
                    line.boot = boot
                    contender.looked(index, record, at, history)
            else:
                assert body is not None
                written = server.write(None if act is Do.CREATE else version, body)
                if written is not None:
                    what = f"{act.value} by {contender.name}: {written.holder or '-'} {written.transitions}"
                    self.note(f"{server.name}: {what} v{written.resource_version}")
                    self.publish(index)

                def answer() -> None:
                    now = contender.clock()
                    if written is None:
                        lock.failed(index, now, pause=timing.RETRY_PAUSE, answered=True)
                        return
                    line.position = int(written.resource_version)
                    if act is Do.RELEASE:
                        lock.released(index, written, now)
                    else:
                        lock.wrote(index, written, sent_at=sent, now=now)

            def answered() -> None:
                if line.way in ("ok", "deaf") and contender.life == life and line.busy == number:
                    if self.true < contender.frozen_until:
                        self.at(contender.frozen_until, answered)
                        return
                    line.busy = 0
                    answer()
                    contender._remember()
                    contender.wake_in(0)

            self.at(self.true + self._takes(), answered)

        def times_out() -> None:
            if contender.life == life and line.busy == number:
                if self.true < contender.frozen_until:
                    self.at(contender.frozen_until + MS, times_out)
                    return
                line.busy = 0
                lock.failed(index, contender.clock(), pause=timing.RETRY_PAUSE, answered=False)
                contender.wake_in(0)

        self.at(self.true + there, arrives)
        self.at(self.true + timing.REQUEST_TIMEOUT, times_out)

    def _body(self, lock: PoolLock, index: int, act: Do) -> LeaseRecord | None:
        if act is Do.READ:
            return None
        seen = lock.members[index].observed
        assert seen is not None
        if act is Do.RELEASE:
            term = lock.left_behind_by(lock.members[index]) or lock.term
            assert seen.record is not None
            assert term is not None
            return dataclasses.replace(seen.record, holder="", duration_s=1, key=term.key)
        assert lock.term is not None
        return LeaseRecord(
            "",
            lock.identity,
            D,
            lock.transitions(index),
            seal=lock.term.seal,
            members=len(lock.members),
            apis=lock.apis,
        )

    # --- watches ---

    def watch(self, contender: Contender, index: int) -> None:
        line = contender.lines[index]
        server = self.servers[index]
        line.watching, line.boot = True, server.boots
        if line.way in ("cut", "mute") or not server.up:
            self._breaks(contender, index)
            return
        self._deliver(contender, index)

    def publish(self, index: int) -> None:
        for contender in self.contenders:
            if contender.lines[index].watching:
                self._deliver(contender, index)

    def _deliver(self, contender: Contender, index: int) -> None:
        """All that is new, in order, after a while; a restored server tells a watch of before nothing."""
        line, server, life = contender.lines[index], self.servers[index], contender.life
        if line.way != "ok" or line.boot != server.boots:
            return
        news = [(v, r) for v, r in server.history if v > line.position]
        line.told = max(line.told, self.true) + self.dice.randrange(1, 40 * MS)

        def arrives() -> None:
            if contender.life != life or not line.watching or line.way != "ok":
                return
            if self.true < contender.frozen_until:
                self.at(contender.frozen_until, arrives)
                return
            for version, record in news:
                contender.watched(index, version, record)

        self.at(line.told, arrives)

    def _breaks(self, contender: Contender, index: int) -> None:
        life, line = contender.life, contender.lines[index]

        def broken() -> None:
            if contender.life == life and line.watching and not line.busy:
                line.watching = False
                contender.lock.failed(index, contender.clock(), pause=timing.RETRY_PAUSE, answered=False)
                contender.wake_in(0)

        self.at(self.true + self.dice.randrange(200 * MS, 10 * S), broken)

    # --- faults ---

    def some_fault(self) -> None:
        dice = self.dice
        contender, index = dice.choice(self.contenders), dice.randrange(len(self.servers))
        line, server = contender.lines[index], self.servers[index]
        kinds = ["way", "way", "way", "freeze", "restart", "restart", "forget", "stranger", "silent", "want", "want"]
        kinds += ["down", "jump", "storm"] + ["delete", "restore", "restore"] * self.restores
        kind = dice.choice(kinds)
        self.note(f"fault: {kind} {contender.name} {server.name}")
        if kind == "way":
            line.way = dice.choice(["ok", "ok", "cut", "mute", "deaf"])
            if line.way != "ok" and line.watching:
                self._breaks(contender, index)
        elif kind == "freeze":
            contender.frozen_until = self.true + dice.randrange(40 * S)
            contender.wakes_at = LATEST
            contender.wake_in(0)
        elif kind == "restart":
            contender.born()
        elif kind == "forget":
            contender.born(with_observations=False)
        elif kind == "stranger":
            contender.reborn_as_a_stranger()
        elif kind == "silent":
            contender.node.silent, contender.told = not contender.node.silent, None
        elif kind == "want":
            contender.want = dice.random() < 0.7
            contender.delay, contender.hurry = dice.randrange(S), dice.random() < 0.2
            contender.wake_in(0)
        elif kind == "down" and not server.restoring:
            server.up = not server.up
        elif kind == "delete" and all(self.true >= each.frozen_until for each in self.contenders):
            server.delete()  # who stood still might make it anew at once: a creation names no version
            self.publish(index)
        elif kind == "jump":
            contender.void_before, contender.told = contender.clock(), None
            contender.wake_in(0)
        elif kind == "storm":
            for each in self.contenders:
                for way in each.lines:
                    way.way = dice.choice(["ok", "ok", "cut"])
        elif kind == "restore":
            self._restore(index)

    def _restore(self, index: int) -> None:
        """A backup of now is played back some time later, after a while without service."""
        server, dice = self.servers[index], self.dice
        backup = server.backup()

        def played() -> None:
            server.restore(backup)
            self.note(f"{server.name} restored to v{backup[1]}")
            for contender in self.contenders:
                if contender.lines[index].watching:
                    self._breaks(contender, index)
            server.up, server.restoring = True, False

        def stopped() -> None:
            if self.calm or server.restoring or server.version < backup[1]:
                return
            server.up, server.restoring = False, True
            self.note(f"{server.name} out of service, to be restored")
            self.at(self.true + outage, played)

        outage = int((D + 1) * S) if self.outage else dice.randrange(3 * S)
        self.at(self.true + dice.randrange(40 * S), stopped)

    def storm(self, seconds: float) -> None:
        end = self.true + int(seconds * S)
        while self.true < end:
            self.run(self.dice.expovariate(0.5))
            self.some_fault()

    def settle(self) -> None:
        """The faults end."""
        self.calm = True
        for server in self.servers:
            server.up = server.up or not server.restoring
        for contender in self.contenders:
            contender.want, contender.delay, contender.hurry = True, 0, False
            contender.node.silent, contender.told = False, None
            contender.frozen_until = 0
            contender.wakes_at = LATEST
            for index, line in enumerate(contender.lines):
                line.way = "ok"
                if line.watching:
                    self._breaks(contender, index)
            contender.wake_in(0)

    def holder(self) -> str:
        return next((c.name for c in self.contenders if c.authority), "")
