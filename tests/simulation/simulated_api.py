"""An API server with one Lease, and what a pod's path to it can do: delay, refuse, swallow answers, forget history."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from kube.errors import ApiFailure, Failure
from kube.leases import LeaseChange
from kube.session import WATCH_GRACE_S
from policy.lease import RELEASED_DURATION_S, LeaseRecord, Renewals

from simulated_time import OUTSIDE

T = TypeVar("T")

LATE_S = (0.3, 3.0, 3.0, 30.0)
"""A request whose answer is given up may still arrive this much later: a kernel sends again what was not confirmed."""
ILL_SHARE = 0.6
"""So many of the requests on an ill path are not answered as they should be."""
ILL: tuple[tuple[Failure, bool], ...] = (
    (Failure.SERVER_ERROR, True),
    (Failure.MALFORMED, True),
    (Failure.UNREACHABLE, True),
    (Failure.CONFLICT, True),
    (Failure.THROTTLED, False),
    (Failure.UNAUTHORIZED, False),
    (Failure.FORBIDDEN, False),
    (Failure.NOT_FOUND, False),
    (Failure.INVALID, False),
)
"""What is answered there, and whether what was asked may have been done all the same."""


class PathState(enum.Enum):
    """Of one pod's way to the server."""

    GOOD = "good"
    REFUSED = "refused"
    HANGING = "hanging"
    """No answer comes; some requests arrive all the same, late."""
    SLOW = "slow"
    TWICE = "twice"
    """What arrives arrives again a little later, as where something on the way repeats it; one of both is answered."""
    ILL = "ill"
    """Most requests, and watches as they are opened, are refused or answered with nonsense, done or not."""
    ANSWERS_LOST = "answers lost"
    """What is asked is done at once; of each second request the connection breaks before the answer."""


class SimulatedApi:
    """The Lease and its versions."""

    def __init__(self, rng: random.Random, on_write: Callable[[str, LeaseRecord | None], None]) -> None:
        """`on_write`: told of every version and of who wrote it ("" by hand)."""
        self.rng = rng
        self.identity = "the only one"
        self.up = True
        self.record: LeaseRecord | None = None
        self.version = 100
        self.history: list[tuple[int, LeaseRecord | None]] = []
        self.forgotten = self.version
        """Versions up to this one are not known any more."""
        self.paths: dict[str, PathState] = {}
        self.stale: tuple[LeaseRecord | None, int] | None = None
        """What a read is answered with, if not the truth; watches are silent meanwhile."""
        self.hasty: Failure | None = None
        """Every watch is over as soon as it is open: closed without a word (UNREACHABLE), or refused with GONE."""
        self.late = False
        """Watches tell nothing now; then all at once."""
        self.deafened: Counter[str] = Counter()
        """By pod: how often the watches that it had open then came to hear nothing more, and not their end either."""
        self.asked: Counter[str] = Counter()
        """Requests by pod, answered or not."""
        self.watches: list[asyncio.Event] = []
        self.opened: Counter[tuple[str, str]] = Counter()
        """Watches, by pod and by the task that follows."""
        self._lives = self._writes = 0
        self._on_write = on_write
        self.readers: set[str] = set()
        """Pods that may read the Lease, and not write it."""

    def lease(self, _name: str) -> SimulatedApi:
        """The Lease of that name: here there is one."""
        return self

    def path(self, pod: str) -> PathState:
        return self.paths.get(pod, PathState.GOOD) if self.up else PathState.REFUSED

    def ill(self, path: PathState) -> tuple[ApiFailure, bool] | None:
        """How a request on this path fails, and whether what it asks is done; None: it does not."""
        if path is not PathState.ILL or self.rng.random() >= ILL_SHARE:
            return None
        kind, may_be_done = self.rng.choice(ILL)
        patience_s = self.rng.choice((None, 1.0, 60.0)) if kind is Failure.THROTTLED else None
        failure = ApiFailure(kind, "an ill answer", retry_after_s=patience_s)
        return failure, may_be_done and self.rng.random() < 0.5

    def open_watch(self, pod: str) -> None:
        task = asyncio.current_task()
        self.opened[pod, task.get_name() if task is not None else ""] += 1
        self.asked[pod] += 1

    def write(self, by: str, record: LeaseRecord | None) -> LeaseRecord | None:
        if by in self.readers:
            raise ApiFailure(Failure.FORBIDDEN, "the Role lacks a right")
        self.version += 1
        if record is not None and self.record is None:
            self._lives += 1
            record = dataclasses.replace(record, uid=str(self._lives))
        if record is not None:
            record = dataclasses.replace(record, resource_version=str(self.version))
            if by:  # a hand leaves it as it is
                self._writes += 1
                record = dataclasses.replace(record, renew_time=str(self._writes))
        self.record = record
        self.history.append((self.version, record))
        self._on_write(by, record)
        self.wake()
        return record

    def wake(self) -> None:
        for watch in self.watches:
            watch.set()

    def compact(self, version: int) -> None:
        """As etcd does all few minutes: what happened up to this version can be watched no more."""
        self.forgotten = max(self.forgotten, version)
        self.history = [entry for entry in self.history if entry[0] > version]

    def stop(self) -> None:
        """Every connection breaks."""
        self.up = False
        self.wake()

    def start(self) -> None:
        """With an empty history, as a restarted server."""
        self.up, self.forgotten = True, self.version
        self.history.clear()


def _late_s(rng: random.Random) -> float:
    return rng.choice(LATE_S) * rng.random()


class Session:
    """In place of a `kube.session.ApiSession`."""

    def __init__(self, api: SimulatedApi, pod: str) -> None:
        self.api, self.pod = api, pod
        self.requests_total: Counter[str] = Counter()
        self.failures_total = 0
        self.loads = 1
        self.alive: Callable[[], bool] = lambda: True
        """Whether the process that asks is."""

    async def request(self, verb: str, timeout_s: float, work: Callable[[], T]) -> T:
        """`work` happens at the server, some time between the request and the answer, heard or not."""
        if not self.alive():
            raise ApiFailure(Failure.UNREACHABLE, "a dead process asks nobody")
        self.requests_total[verb] += 1
        self.api.asked[self.pod] += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await self._request(work)
        except TimeoutError:
            self.failures_total += 1
            raise ApiFailure(Failure.TIMEOUT, "no answer") from None
        except ApiFailure:
            self.failures_total += 1
            raise

    async def _request(self, work: Callable[[], T]) -> T:
        api, loop = self.api, asyncio.get_running_loop()
        path = api.path(self.pod)
        if path is PathState.REFUSED:
            await asyncio.sleep(0.002)
            raise ApiFailure(Failure.UNREACHABLE, "refused")
        if path is PathState.HANGING:
            if api.rng.random() < 0.3:
                loop.call_later(_late_s(api.rng), self._arrive, work, None, context=OUTSIDE)
            await asyncio.Event().wait()
        total = api.rng.uniform(0.3, 1.2) if path is PathState.SLOW else api.rng.uniform(0.001, 0.02)
        there = total * api.rng.random()
        if (ill := api.ill(path)) is not None:
            failure, done = ill
            if done:
                loop.call_later(there, self._arrive, work, None, context=OUTSIDE)
            await asyncio.sleep(total)
            raise failure
        answer: asyncio.Future[T] = loop.create_future()
        if path is PathState.TWICE and api.rng.random() < 0.5:  # the first answer is lost to who repeats it
            loop.call_later(there, self._arrive, work, None, context=OUTSIDE)
            loop.call_later(there + api.rng.uniform(0, 0.3), self._arrive, work, answer, context=OUTSIDE)
        else:
            loop.call_later(there, self._arrive, work, answer, context=OUTSIDE)
            if path is PathState.TWICE:
                loop.call_later(there + _late_s(api.rng), self._arrive, work, None, context=OUTSIDE)
        found = await answer
        await asyncio.sleep(total - there)
        path = api.path(self.pod)
        if path is PathState.HANGING:
            await asyncio.Event().wait()
        if path is PathState.REFUSED or (path is PathState.ANSWERS_LOST and api.rng.random() < 0.5):
            raise ApiFailure(Failure.UNREACHABLE, "the answer was lost")
        return found

    def _arrive(self, work: Callable[[], T], answer: asyncio.Future[T] | None) -> None:
        try:
            if not self.api.up:
                raise ApiFailure(Failure.UNREACHABLE, "refused")
            found = work()
        except ApiFailure as failure:
            if answer is not None and not answer.done():
                answer.set_exception(failure)
        else:
            if answer is not None and not answer.done():
                answer.set_result(found)


class Leases:
    """In place of a `kube.leases.LeaseClient`."""

    def __init__(self, session: Session, _namespace: str, _name: str) -> None:
        self._session, self._api = session, session.api.lease(_name)
        self._renewals = Renewals()
        self.is_foreign = self._renewals.is_foreign

    async def api_identity(self, *, timeout_s: float) -> str:
        return await self._session.request("get", timeout_s, lambda: self._session.api.identity)

    async def look(self, *, timeout_s: float) -> tuple[LeaseRecord | None, str]:
        def work() -> tuple[LeaseRecord | None, str]:
            record, version = self._api.stale or (self._api.record, self._api.version)
            return record, str(version)

        return await self._session.request("list", timeout_s, work)

    async def create(
        self,
        *,
        holder: str,
        duration_s: int,
        transitions: int,
        timeout_s: float,
        seal: str = "",
        challenge: str = "",
        members: int = 0,
        apis: tuple[str, ...] = (),
        counter: str = "",
    ) -> LeaseRecord:
        def work() -> LeaseRecord:
            if self._api.record is not None:
                raise ApiFailure(Failure.ALREADY_EXISTS, "there is one")
            told = {"seal": seal, "challenge": challenge, "members": members, "apis": apis, "counter": counter}
            return self._write(LeaseRecord("", holder, duration_s, transitions, **told))

        return await self._session.request("create", timeout_s, work)

    async def replace(
        self,
        known: LeaseRecord,
        *,
        holder: str,
        duration_s: int,
        transitions: int,
        acquired: bool,
        timeout_s: float,
        seal: str,
        key: str = "",
        challenge: str | None = None,
        preferred_holder: str | None = None,
        members: int = 0,
        apis: tuple[str, ...] = (),
        counter: str = "",
    ) -> LeaseRecord:
        def work() -> LeaseRecord:
            now = self._api.record
            if now is None:
                raise ApiFailure(Failure.NOT_FOUND, "there is none")
            if (now.resource_version, now.uid) != (known.resource_version, known.uid):
                raise ApiFailure(Failure.CONFLICT, "another version")
            said = now.challenge if challenge is None else challenge
            return self._write(
                dataclasses.replace(
                    now,
                    holder=holder,
                    duration_s=duration_s,
                    transitions=transitions,
                    seal=seal,
                    key=key,
                    challenge=said,
                    preferred_holder=now.preferred_holder if preferred_holder is None else preferred_holder,
                    members=members or now.members,
                    apis=apis if members else now.apis,
                    counter=counter or now.counter,
                ),
                over=known,
            )

        del acquired  # for people
        return await self._session.request("update", timeout_s, work)

    async def release(
        self, known: LeaseRecord, *, timeout_s: float, seal: str, key: str, preferred_holder: str | None = None
    ) -> LeaseRecord:
        return await self.replace(
            known,
            holder="",
            duration_s=RELEASED_DURATION_S,
            transitions=known.transitions,
            acquired=True,
            timeout_s=timeout_s,
            seal=seal,
            key=key,
            preferred_holder=preferred_holder,
        )

    def _write(self, record: LeaseRecord, *, over: LeaseRecord | None = None) -> LeaseRecord:
        written = self._api.write(self._session.pod, record)
        assert written is not None
        self._renewals.wrote(written.renew_time, over=over)  # also where the answer is lost
        return written

    async def watch(self, version: str, *, timeout_s: int) -> AsyncGenerator[LeaseChange, None]:
        api, rng, loop = self._api, self._api.rng, asyncio.get_running_loop()
        self._session.requests_total["watch"] += 1
        api.open_watch(self._session.pod)
        if api.path(self._session.pod) is PathState.HANGING:
            await asyncio.sleep(5)
            raise ApiFailure(Failure.TIMEOUT, "no answer")
        await asyncio.sleep(rng.uniform(0.001, 0.01))
        self._must_be_reachable()
        if (ill := api.ill(api.path(self._session.pod))) is not None:
            raise ill[0]
        at = int(version)
        if at < api.forgotten or api.hasty is Failure.GONE:
            raise ApiFailure(Failure.GONE, "too old")
        news, until, pod = asyncio.Event(), loop.time() + timeout_s, self._session.pod
        deafened = api.deafened[pod]
        api.watches.append(news)
        try:
            while loop.time() < until and api.hasty is None:
                news.clear()
                silent = api.stale is not None or api.late or api.deafened[pod] != deafened
                for each, record in [] if silent else [entry for entry in api.history if entry[0] > at]:
                    at = each
                    await self._travel()
                    yield LeaseChange("MODIFIED" if record is not None else "DELETED", record, str(each))
                self._must_be_reachable()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(until - loop.time()):
                        await news.wait()
            if api.deafened[pod] != deafened:
                await asyncio.sleep(WATCH_GRACE_S)
                raise ApiFailure(Failure.TIMEOUT, "a dead connection")
        finally:
            api.watches.remove(news)

    async def _travel(self) -> None:
        path, rng = self._api.path(self._session.pod), self._api.rng
        if path is PathState.HANGING:
            await asyncio.sleep(30)
            raise ApiFailure(Failure.TIMEOUT, "a dead connection")
        await asyncio.sleep(rng.uniform(0.2, 1) if path is PathState.SLOW else rng.uniform(0.0005, 0.01))

    def _must_be_reachable(self) -> None:
        if self._api.path(self._session.pod) is PathState.REFUSED:
            raise ApiFailure(Failure.UNREACHABLE, "refused")
