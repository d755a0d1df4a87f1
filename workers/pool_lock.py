"""Carries out what `policy.pool_lock` decides: one task for each coordination API, and a watch on its Lease.

Every member is watched all the time, also by pods that do not contend: who has not seen a term cannot know when it has
ended.  A request to one member never waits for another's answer.  What is known outlives the worker in
RUN_DIR/arbiter/pool-lock.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from config import Config
from ipc.complaints import Complaint
from ipc.messages import Grant, LockMember, LockPhase, Worker
from kernel.clock import boottime_ns
from kube.errors import ANSWERS, ApiFailure, Failure
from kube.leases import LeaseChange, LeaseClient, went_back
from kube.session import ApiSession
from policy import timing
from policy.election import Do, Step
from policy.lease import LeaseRecord, Observed
from policy.pool_lock import Kept, PoolLock, Term, Wish
from workers.catch_up import caught_up
from workers.notebook import Notebook, observation
from workers.reopening import Reopening
from workers.tasks import end, fail_stop, woken
from workers.transitions import Told

log = logging.getLogger("arbiter")

NOTES: Final = "pool-lock"
OFTEN: Final = 8
"""After so many failures in a row a member is asked more rarely: an hour without it is no hour of knocking."""
RARELY: Final = 6


@dataclass(frozen=True, slots=True)
class _Remembered:
    kept: Kept
    instance: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of this pod: whoever comes after it under the same name is another."""
    seen: dict[str, tuple[Observed, str, str]] = field(default_factory=dict)
    """By member: what was seen last, the version the next one is asked for after, and which API it was."""


def _remembered(raw: dict[str, Any], this_boot: bool) -> _Remembered:
    """Of another boot only the fencing tokens count: its instants are worth nothing, and its node is gone."""
    kept = raw["kept"]
    if not this_boot:
        return _Remembered(Kept(highest=int(kept["highest"])), str(raw["instance"]))
    return _Remembered(
        Kept(
            phase=LockPhase(kept["phase"]),
            term=None if kept["term"] is None else Term(**kept["term"]),
            spent=tuple(Term(**term) for term in kept["spent"]),
            over=bool(kept["over"]),
            granted=None if kept["granted"] is None else Grant(**kept["granted"]),
            withdrawn=int(kept["withdrawn"]),
            highest=int(kept["highest"]),
        ),
        str(raw["instance"]),
        {
            str(name): (observation(seen), str(position), str(api))
            for name, (seen, position, api) in raw["seen"].items()
            if position
        },
    )


@dataclass(eq=False, slots=True)
class _Line:
    """One coordination API."""

    index: int
    session: ApiSession
    leases: LeaseClient
    failing: Complaint
    position: str = ""
    identified: int = 0
    """The session's `loads` when it told which API it is; 0: it is to be asked."""
    failures: int = 0
    """In a row."""
    problem: str = ""
    """The last of them."""
    watch: asyncio.Task[None] | None = None
    reopening: Reopening = field(default_factory=Reopening)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class PoolLockKeeper:
    """The lock of one pool, as one pod contends for it."""

    def __init__(
        self,
        config: Config,
        sessions: Sequence[ApiSession],
        on_change: Callable[[], None],
    ) -> None:
        """`sessions`: in the order of `config.coordination_kubeconfigs`."""
        self._config = config
        self._on_change = on_change
        names = [each.name for each in config.coordination_kubeconfigs]
        self._notebook = Notebook(config.worker_dir(Worker.ARBITER), log, NOTES)
        known = self._notebook.read(_remembered) or _Remembered(Kept())
        self._instance = known.instance
        self.lock = PoolLock(
            f"{config.forge_cluster_name}/{config.pod_name}_{known.instance}",
            names,
            lease_duration_s=config.lease_duration,
            sleep_interval=config.sleep_interval_ns,
            now=boottime_ns(),
            kept=known.kept,
        )
        self._lines = []
        for index, (name, session) in enumerate(zip(names, sessions, strict=True)):
            leases = LeaseClient(session, config.coordination_namespace, config.pool_lock_name)
            failing = Complaint(
                log,
                "member_failed",
                "a coordination API fails us",
                end=("member_ok", "the coordination API answers again"),
                facts={"member": name},
            )
            line = _Line(index, session, leases, failing)
            if name in known.seen:
                seen, line.position, api = known.seen[name]
                self.lock.restore(index, seen, api)
            self._lines.append(line)
        self._wish = Wish(want=False)
        self._successor = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._told = Told(log, "lock_phase_changed", boottime_ns(), old=str(self.lock.phase), token=self.lock.token)
        self._noted: tuple[Kept, tuple[tuple[Observed | None, str, str], ...]] | None = None

    def start(self) -> None:
        """Begin to look at every member."""
        for line in self._lines:
            task = asyncio.create_task(self._serve(line), name=f"lock {self.lock.members[line.index].name}")
            task.add_done_callback(fail_stop)
            self._tasks.append(task)

    async def close(self) -> None:
        for task in (*self._tasks, *(line.watch for line in self._lines if line.watch is not None)):
            await end(task)

    def judge(self, now: int, wish: Wish, successor: str) -> int:
        """Take the arbiter's wish; the instant (ns) at which to call again at the latest."""
        changed = wish != self._wish
        self._wish = wish
        if not self.lock.over:  # by then the verdict is that of one who holds nothing
            self._successor = successor
        before = (self.lock.phase, self.lock.over)
        until = self.lock.update(now, wish, key=secrets.token_hex(16), chance=random.random())  # noqa: S311
        self._remember()
        if changed or before != (self.lock.phase, self.lock.over):
            for line in self._lines:
                line.wake.set()
        self._told.tell(now, str(self.lock.phase), self.lock.reason, self.lock.token)
        return until

    def grant(self, now: int) -> Grant | None:
        return self.lock.grant(now)

    def members(self, crd_ok: Sequence[bool]) -> tuple[LockMember, ...]:
        """As the state shows them."""
        return tuple(
            LockMember(
                name=member.name,
                api_ok=member.reachable,
                crd_ok=ok,
                holder=_holder(member.observed),
                ours_until=self.lock.ours_until(member),
                problem=line.problem,
            )
            for member, line, ok in zip(self.lock.members, self._lines, crd_ok, strict=True)
        )

    @property
    def released(self) -> bool:
        """Whether nothing of the lock is ours any more, as far as it can be reached."""
        return self.lock.phase is LockPhase.IDLE and not any(
            self.lock.left_behind(member) and member.reachable for member in self.lock.members
        )

    # --- one member ---

    async def _serve(self, line: _Line) -> None:
        while True:
            line.wake.clear()
            now = boottime_ns()
            step = self.lock.next(line.index, now, self._wish)
            if step.act is Do.WAIT:
                self._keep_watching(line)
                pause = max(min(step.until, now + timing.SECOND) - boottime_ns(), 0) / timing.SECOND
                await woken(line.wake, pause)
            else:
                await self._carry_out(line, step)
                self._remember()
                self._on_change()
                for other in self._lines:  # whose turn it may be now
                    other.wake.set()

    async def _carry_out(self, line: _Line, step: Step) -> None:
        """One request, and what its answer means."""
        sent = boottime_ns()
        try:
            await self._request(line, step.act, sent, self._patience(line, sent) / timing.SECOND)
        except ApiFailure as failure:
            self._failed(line, step.act, failure)
        else:
            line.failing.over()
            line.failures, line.problem = 0, ""

    def _patience(self, line: _Line, now: int) -> int:
        """ns for the next request: a holder's leaves room for two more before its right ends."""
        until = self.lock.ours_until(self.lock.members[line.index])
        if not until:
            return timing.CONTENDER_TIMEOUT
        return max(timing.REQUEST_TIMEOUT, (until - now) // 3)

    async def _request(self, line: _Line, act: Do, sent: int, timeout_s: float) -> None:
        lock, leases, index = self.lock, line.leases, line.index
        if act is Do.READ or line.identified != line.session.loads:
            await self._look(line, timeout_s)
            return
        member = lock.members[index]
        assert member.observed is not None  # `PoolLock.next`
        known, term = member.observed.record, lock.term
        if act is Do.RELEASE:
            spent = lock.left_behind_by(member) or term
            assert known is not None
            assert spent is not None
            written = await leases.release(
                known, timeout_s=timeout_s, seal=known.seal, key=spent.key, preferred_holder=self._successor
            )
            line.position = written.resource_version
            lock.released(index, written, boottime_ns())
            return
        assert term is not None
        transitions = lock.transitions(index)
        if act is Do.CREATE:
            written = await leases.create(
                holder=lock.identity,
                duration_s=self._config.lease_duration,
                transitions=transitions,
                timeout_s=timeout_s,
                seal=term.seal,
                members=len(self._lines),
                apis=lock.apis,
            )
        else:
            assert known is not None
            written = await leases.replace(
                known,
                holder=lock.identity,
                duration_s=self._config.lease_duration,
                transitions=transitions,
                acquired=act is Do.TAKE,
                timeout_s=timeout_s,
                seal=term.seal,
                preferred_holder="",
                members=len(self._lines),
                apis=lock.apis,
            )
        if line.identified != line.session.loads:
            raise ApiFailure(Failure.UNREACHABLE, "its settings were read anew: it may be another server")
        line.position = written.resource_version
        lock.wrote(index, written, sent_at=sent, now=boottime_ns())

    async def _look(self, line: _Line, timeout_s: float) -> None:
        """The Lease as it is, and what was written since we saw it last: somebody may hold a right unseen."""
        await self._stop_watching(line)
        by = asyncio.get_running_loop().time() + timeout_s
        if line.failures or line.identified != line.session.loads:
            await self._identify(line, timeout_s)
        record, version = await line.leases.look(timeout_s=max(by - asyncio.get_running_loop().time(), 0))
        member = self.lock.members[line.index]
        known = member.observed
        missed = known is not None and (record is None or record != known.record)
        restored = went_back(version, line.position) or _older(record, known)
        if not line.position:
            missed = True  # another API, perhaps
        elif restored:
            log.warning(
                "a coordination API was restored from a backup: its lock counts as held for a lease duration",
                extra={"event": "member_went_back", "member": self._name(line)},
            )
            missed = True
        elif missed and record is not None:
            missed = not await self._caught_up(line, record, by)
        foreign = line.leases.is_foreign(record)
        self.lock.saw(line.index, record, boottime_ns(), missed=missed, read=True, foreign=foreign)
        line.position = version

    async def _identify(self, line: _Line, timeout_s: float) -> None:
        """Which API this is; of another one than before nothing is known."""
        loads = line.session.loads
        line.identified = 0
        api = await line.leases.api_identity(timeout_s=timeout_s)
        before = self.lock.members[line.index].api
        if before and before != api:
            line.position = ""
            facts = {"event": "member_is_another", "member": self._name(line)}
            log.warning("another coordination API answers: its lock counts as held for a lease duration", extra=facts)
        self.lock.identified(line.index, api)
        line.identified = loads

    async def _caught_up(self, line: _Line, record: LeaseRecord, by: float) -> bool:
        leases = LeaseClient(line.session, self._config.coordination_namespace, self._config.pool_lock_name)

        def tell(change: LeaseChange) -> None:
            foreign = line.leases.is_foreign(change.record)
            self.lock.saw(line.index, change.record, boottime_ns(), more=True, foreign=foreign)
            line.position = change.version or line.position

        return bool(line.position) and await caught_up(leases, line.position, record, tell, by=by)

    def _failed(self, line: _Line, act: Do, failure: ApiFailure) -> None:
        answered = failure.kind in ANSWERS
        pause = timing.RETRY_PAUSE + random.randrange(timing.RETRY_PAUSE // 2)  # noqa: S311  # spreads contenders
        if line.failures >= OFTEN:
            pause *= RARELY
        self.lock.failed(line.index, boottime_ns(), pause=pause, answered=answered)
        if answered:
            return
        line.failures += 1
        line.problem = str(failure)
        kind = str(failure.kind)
        line.failing.again(kind, act=act.value, kind=kind, why=str(failure))

    # --- the watch ---

    def _keep_watching(self, line: _Line) -> None:
        member = self.lock.members[line.index]
        if line.watch is None and not member.must_read and line.position and boottime_ns() >= member.retry_at:
            line.watch = asyncio.create_task(self._watch(line), name=f"watch {member.name}")
            line.watch.add_done_callback(lambda task: self._watch_ended(line, task))

    async def _watch(self, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        line.reopening.opened(loop.time())
        try:
            async for change in line.leases.watch(line.position, timeout_s=timing.WATCH_TIMEOUT_S):
                line.reopening.told()
                if _not_newer(change.version, line.position):
                    continue  # we have written since
                self.lock.saw(line.index, change.record, boottime_ns(), foreign=line.leases.is_foreign(change.record))
                line.position = change.version or line.position
                self._remember()
                self._on_change()
                line.wake.set()
        except ApiFailure as failure:
            self._failed(line, Do.READ, failure)
            line.wake.set()
        else:
            await asyncio.sleep(line.reopening.ended(loop.time()))

    def _watch_ended(self, line: _Line, task: asyncio.Task[None]) -> None:
        if line.watch is task:
            line.watch = None
        fail_stop(task)
        line.wake.set()
        self._on_change()

    async def _stop_watching(self, line: _Line) -> None:
        task, line.watch = line.watch, None
        await end(task)

    def _name(self, line: _Line) -> str:
        return self.lock.members[line.index].name

    def _remember(self) -> None:
        kept = self.lock.kept
        seen = tuple(
            (member.observed, line.position, member.api)
            for member, line in zip(self.lock.members, self._lines, strict=True)
        )
        if (kept, seen) == self._noted:
            return
        self._noted = (kept, seen)
        told = {
            member.name: (dataclasses.asdict(observed), position, api)
            for member, (observed, position, api) in zip(self.lock.members, seen, strict=True)
            if observed is not None
        }
        self._notebook.keep({"instance": self._instance, "kept": dataclasses.asdict(kept), "seen": told})


def _holder(seen: Observed | None) -> str:
    return seen.record.holder if seen is not None and seen.record is not None else ""


def _older(record: LeaseRecord | None, known: Observed | None) -> bool:
    """Whether this very Lease is at an earlier version than one that we have seen."""
    before = known.record if known is not None else None
    return (
        record is not None
        and before is not None
        and record.uid == before.uid
        and went_back(record.resource_version, before.resource_version)
    )


def _not_newer(version: str, position: str) -> bool:
    return version == position or went_back(version, position)
