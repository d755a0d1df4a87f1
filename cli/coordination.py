"""What the coordination APIs say of one pool: read at once, merged, each silence named."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from cli.asking import Failed, Misused, NobodyAnswers
from cli.where import Place, Wanted, places, wanted
from config import Config
from kernel.clock import boottime_ns
from kube.errors import ANSWERS, ApiFailure, Failure, SessionConfigError
from kube.forge_clusters import PLURAL, POOL_LABEL, ForgeCluster, ForgeClusterClient, parse_cluster
from kube.leases import parse_lease
from kube.session import ApiSession, Json
from policy import arbitration, replicas, timing
from policy.arbitration import Cluster
from policy.lease import LeaseRecord
from policy.pause import of_members
from policy.pool_lock import cluster_of, one_set
from workers.cluster_report import ACCEPTED, condition_of, of_status

TIMEOUT_S: Final = 4.0
USER_AGENT: Final = "cardano-forge-manager/forgectl"
OLDER_WORD_S: Final = 60.0
"""The older manager writes its status every five seconds; what is older than this may be what one left behind."""


@dataclass(frozen=True, slots=True)
class LockSeen:
    """The pool's Lease on one coordination API, or an election's."""

    record: LeaseRecord
    acquired_at: float | None
    renewed_at: float | None
    """Seconds since 1970, as its holder wrote them; None: not told."""

    def stands(self, wall_s: float) -> bool:
        """Whether its holder may have a right from it, by this machine's clock."""
        renewed = self.renewed_at if self.renewed_at is not None else wall_s
        return bool(self.record.holder) and wall_s < renewed + self.record.duration_s


@dataclass(eq=False, slots=True)
class Member:
    """One coordination API."""

    place: Place
    session: ApiSession | None
    problem: str = ""
    """Why nothing is known of it; empty: it answered."""
    misconfigured: bool = False
    clusters: list[ForgeCluster] = field(default_factory=list)
    lock: LockSeen | None = None
    lock_problem: str = ""
    leaders_problem: str = ""
    """Why its CardanoLeaders are not known, where they were asked for; empty: they are."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def answers(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True)
class Known:
    """A cluster by all that answer."""

    judged: Cluster
    status: Json
    """The newest."""
    generation: int
    said_at: float | None
    """Seconds since 1970 by its leader's clock; None: never."""
    unreadable: str = ""
    """Which field of a copy cannot be read, here or by its leading pod, and what would be right; empty: none."""


class Pool:
    """One pool, as it was read last."""

    def __init__(self, config: Config, wanted: Wanted, members: list[Member]) -> None:
        self.config = config
        self.members = members
        self.label = ""
        """Value of POOL_LABEL; empty: there is no cluster of it, and it was not named."""
        self.clusters: dict[str, Known] = {}
        self.read_at = 0
        """ns of CLOCK_BOOTTIME."""
        self.wall_s = 0.0
        self._wanted = wanted

    # --- reading ---

    async def read(self, members: Sequence[Member] | None = None) -> None:
        """Ask all (or these) at once.  Raises NobodyAnswers, or Misused where several pools are there."""
        asked = [member for member in (members or self.members) if member.session is not None]
        await asyncio.gather(*(self._list(member) for member in asked))
        answering = [member for member in self.members if member.answers]
        if not answering:
            why = "; ".join(f"{member.name}: {member.problem}" for member in self.members)
            kind = Misused if all(member.misconfigured for member in self.members) else NobodyAnswers
            raise kind(f"no coordination API could be asked: {why}")
        self.label = self._one_label(answering)
        for member in answering:
            member.clusters = [one for one in member.clusters if one.label == self.label]
        if self.label:
            await asyncio.gather(*(self._look_at_lock(member) for member in asked if member.answers))
        self.read_at, self.wall_s = boottime_ns(), time.time()
        names = sorted({one.name for member in answering for one in member.clusters})
        self.clusters = {name: self._known(name) for name in names}

    async def _list(self, member: Member) -> None:
        assert member.session is not None
        labels = self._wanted.labels
        query = [("labelSelector", f"{POOL_LABEL} in ({','.join(labels)})" if labels else POOL_LABEL)]
        try:
            raw = await member.session.request("list", self._folder(member), query=query, timeout_s=TIMEOUT_S)
            found = [parse_cluster(item) for item in items_of(raw)]
        except ApiFailure as failure:
            member.problem, member.clusters, member.lock = in_words(failure), [], None
            return
        member.problem = ""
        member.clusters = [one for one in found if one.label.partition("-")[0] in self._wanted.networks]

    async def _look_at_lock(self, member: Member) -> None:
        assert member.session is not None
        name = f"cardano-pool-{self.label}"
        folder = f"/apis/coordination.k8s.io/v1/namespaces/{member.place.namespace}/leases"
        query = [("fieldSelector", f"metadata.name={name}")]
        try:
            raw = await member.session.request("list", folder, query=query, timeout_s=TIMEOUT_S)
            items = items_of(raw)
            member.lock = lease_seen(items[0]) if items else None
            member.lock_problem = "" if items else "no Lease"
        except ApiFailure as failure:
            member.lock, member.lock_problem = None, str(failure)

    def _folder(self, member: Member) -> str:
        config = self.config
        return f"/apis/{config.crd_group}/{config.crd_version}/namespaces/{member.place.namespace}/{PLURAL}"

    def _one_label(self, answering: list[Member]) -> str:
        labels = sorted({one.label for member in answering for one in member.clusters})
        if len(labels) > 1:
            raise Misused(f"several pools are there: {', '.join(labels)}; choose one by --network and --pool")
        only = self._wanted.labels
        return labels[0] if labels else only[0] if len(only) == 1 else ""

    # --- merging ---

    def _known(self, name: str) -> Known:
        seen = [one for member in self.members if member.answers for one in member.clusters if one.name == name]
        newest = max(seen, key=_heard)
        copies = [replicas.Copy(True, one.spec, one.mark) for one in seen if one.spec is not None]
        counting = replicas.counts(copies)
        wrong = self._wrong_pool(seen)
        said_at = _said_at(newest.status)
        age = arbitration.FRESH if said_at is None else int(max(self.wall_s - said_at, 0) * timing.SECOND)
        judged = dataclasses.replace(
            of_status(name, newest.region, newest.status),
            spec=copies[counting].spec if counting is not None and not wrong else None,
            unreadable=wrong or next((one.unreadable for one in seen if one.unreadable), ""),
            changed_at=self.read_at - age,
        )
        return Known(
            judged, newest.status, newest.generation, said_at, wrong or self.unreadable(name) or refused(newest.status)
        )

    def _wrong_pool(self, seen: list[ForgeCluster]) -> str:
        ours = self._wanted.pool_id
        others = [one for one in seen if ours and one.pool_id and one.pool_id != ours]
        return f"spec.pool.id is another pool's; rename or delete {others[0].name}" if others else ""

    # --- asking what is known ---

    def means(self, name: str) -> bool:
        """Whether a Lease or CardanoLeader of this name is of the pool and network that were asked for."""
        wanted = self._wanted
        if not wanted.pools:
            return True
        return any(name.endswith(f"-{label}") for label in wanted.labels)

    def judged(self) -> list[Cluster]:
        return [known.judged for known in self.clusters.values()]

    def against(self, name: str) -> str:
        """Why this cluster cannot be chosen; empty: it can."""
        return self.clusters[name].judged.against(self.read_at, self.wall_s)

    def unreadable(self, name: str) -> str:
        """What of this cluster's copies cannot be read here, each with its member where there are several."""
        found = [
            f"on {member.name}: {one.unreadable}" if len(self.members) > 1 else one.unreadable
            for member in self.members
            if member.answers
            for one in member.clusters
            if one.name == name and one.unreadable
        ]
        return "; ".join(found)

    def silent(self, name: str) -> bool:
        return self.read_at - self.clusters[name].judged.changed_at >= arbitration.FRESH

    def forging(self, name: str) -> bool:
        """Its own word, unless that is too old, or the lock has gone since."""
        return self.said_forging(name) and not self.silent(name) and not self.lost(name)

    def said_forging(self, name: str) -> bool:
        return self.clusters[name].status.get("forgingEnabled") is True

    def older(self, name: str) -> bool:
        """Whether an older manager writes there now that it forges: it looks at no lock, whoever holds that.

        With each word of this version's goes when it was said; a transition that is later is not of this version.
        """
        known = self.clusters[name]
        at = instant(known.status.get("lastTransition"))
        if at is None or not self.said_forging(name) or abs(self.wall_s - at) >= OLDER_WORD_S:
            return False
        return at > (known.said_at or 0.0) + 1

    def lost(self, name: str) -> bool:
        """Whether the lock is another's, or has run out, on so many that this cluster has no majority any more."""
        locks = [member.lock for member in self.members if member.answers and member.lock is not None]
        others = [lock for lock in locks if not (lock.stands(self.wall_s) and cluster_of(lock.record.holder) == name)]
        return 2 * len(others) >= self.count if others else False

    def ranking(self, wall_s: float | None = None) -> tuple[Cluster, ...]:
        """Those that can forge by what is known now, by their specs as of `wall_s` (None: now), the best first."""
        return arbitration.rank(self.judged(), self.read_at, self.wall_s if wall_s is None else wall_s)

    def conflict(self) -> tuple[str, ...]:
        return arbitration.conflict(self.judged(), self.wall_s)

    @property
    def count(self) -> int:
        """Coordination APIs of which a majority counts: as the lock's holder says, or as many as were named."""
        told = [member.lock.record.members for member in self.members if member.lock is not None]
        return max([len(self.members), *told])

    def holder(self) -> tuple[str, int]:
        """Whom most of those that answer name as the lock's holder now, and how many do; empty: nobody."""
        locks = [member.lock for member in self.members if member.lock is not None]
        names = [lock.record.holder for lock in locks if lock.stands(self.wall_s)]
        best = max(names, key=names.count, default="")
        return best, names.count(best)

    @property
    def sets_differ(self) -> bool:
        """Whether the locks were written by pods that count different coordination APIs: each may have its forger."""
        told = [member.lock.record for member in self.members if member.lock is not None and member.lock.record.members]
        return not one_set(*((record.members, record.apis) for record in told))

    @property
    def paused(self) -> str:
        """Until when the lock is paused, and why, by those that answer; empty: it is not."""
        texts = [member.lock.record.paused for member in self.members if member.answers and member.lock is not None]
        found = of_members(texts, self.wall_s)
        return str(found) if found is not None else ""

    @property
    def token(self) -> int:
        return max((m.lock.record.transitions for m in self.members if m.lock is not None), default=0)

    def find(self, wanted: str) -> str:
        """The name of the cluster that is called so, or whose region is.  Raises Misused."""
        if wanted in self.clusters:
            return wanted
        names = [name for name, known in self.clusters.items() if known.judged.region == wanted]
        if len(names) == 1:
            return names[0]
        if names:
            raise Misused(f"{wanted} is the region of {', '.join(names)}; give the name")
        there = ", ".join(f"{name} ({known.judged.region})" for name, known in self.clusters.items())
        if not there and not self.unheard():
            raise Misused(
                f"no cluster {wanted}: there is no CardanoForgeCluster in namespace {self.namespaces}. Without cluster "
                "management a pod hands over by `forgectl stand-down` in its container"
            )
        raise Misused(f"no cluster {wanted}; there {'are ' + there if there else 'is none'}{self.unheard()}")

    @property
    def namespaces(self) -> str:
        """Where those that answer were asked, for a sentence."""
        return ", ".join(dict.fromkeys(member.place.namespace for member in self.members if member.answers))

    def unheard(self) -> str:
        """Who did not answer, as the end of a sentence; empty: everybody did."""
        away = [member.name for member in self.members if not member.answers]
        return f" (not asked: {', '.join(away)})" if away else ""

    # --- writing ---

    async def patch(self, name: str, body: Json) -> tuple[Member, ForgeCluster]:
        """Merge patch of one cluster on the first member that has it and takes it; which, and what it has now.

        Where it can be read as a whole, if that is so anywhere: what is said there is in force at once.
        Raises Failed.  Repeated where a member does not answer: a patch that arrives twice changes nothing.
        """
        why: list[str] = []
        answered = False

        def spoilt(member: Member) -> bool:
            return any(one.name == name and one.spec is None for one in member.clusters)

        for member in sorted(self.members, key=spoilt):
            if member.session is None or not member.answers or all(one.name != name for one in member.clusters):
                continue
            group, version = self.config.crd_group, self.config.crd_version
            client = ForgeClusterClient(
                member.session, member.place.namespace, self.label, group=group, version=version
            )
            for attempt in (1, 2):
                try:
                    after = await client.patch(name, body, version="", manager="forgectl", timeout_s=TIMEOUT_S)
                except ApiFailure as failure:
                    if failure.kind is Failure.INVALID:
                        raise Failed(f"{member.name} refuses it: {failure}") from None
                    if attempt == 1 and failure.connection_suspect:
                        continue
                    why.append(f"{member.name}: {in_words(failure)}")
                    answered |= failure.kind in (Failure.FORBIDDEN, Failure.UNAUTHORIZED, *ANSWERS)
                    break
                return member, after
        kind = Failed if answered else NobodyAnswers
        raise kind(f"{name} could not be written: {'; '.join(why)}")


@contextlib.asynccontextmanager
async def opened(config: Config, places: Sequence[Place], wanted: Wanted) -> AsyncIterator[Pool]:
    """The pool, not read yet.  Connections are closed at the end."""
    async with AsyncExitStack() as stack:
        members = []
        for place in places:
            session = ApiSession(place.kubeconfig, context=place.context, user_agent=USER_AGENT)
            try:
                members.append(Member(place, await stack.enter_async_context(session)))
            except SessionConfigError as error:
                why = str(error).replace(f"KUBECONFIG {place.kubeconfig}", "its kubeconfig")
                members.append(Member(place, None, why, misconfigured=True))
        yield Pool(config, wanted, members)


T = TypeVar("T")


def with_pool(config: Config, arguments: argparse.Namespace, work: Callable[[Pool], Coroutine[Any, Any, T]]) -> T:
    """Do `work` with the pool that is meant, read once.  Raises Failed."""

    async def run() -> T:
        async with opened(config, found, about) as pool:
            await pool.read()
            return await work(pool)

    about = wanted(config, arguments)
    with ExitStack() as stack:
        found = places(config, arguments, os.environ.get("KUBECONFIG", ""), stack)
        return asyncio.run(run())


# --- reading objects ---


def items_of(raw: Json) -> list[Json]:
    """The objects of a list as it was answered."""
    items = raw.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def refused(status: Json) -> str:
    """What a cluster's leading pod says that it cannot read of it (condition SpecAccepted); empty: nothing."""
    accepted = condition_of(status, ACCEPTED)
    if accepted.get("status") != "False":
        return ""
    message = accepted.get("message")
    return message if isinstance(message, str) and message else f"its leading pod says so (condition {ACCEPTED})"


def _heard(cluster: ForgeCluster) -> tuple[float, float]:
    return _said_at(cluster.status) or 0, instant(cluster.status.get("lastTransition")) or 0


def _said_at(status: Json) -> float | None:
    health = status.get("healthStatus")
    return instant(health.get("lastProbeTime")) if isinstance(health, dict) else None


def instant(text: object) -> float | None:
    """Seconds since 1970 of a time as the API has it; None: it is none."""
    if not isinstance(text, str):
        return None
    with contextlib.suppress(ValueError, OverflowError):
        parsed = datetime.fromisoformat(text)
        return parsed.timestamp() if parsed.tzinfo is not None else None
    return None


def lease_seen(raw: Json) -> LockSeen:
    """A Lease, and what its holder wrote of its times.  Raises ApiFailure."""
    record, spec = parse_lease(raw), raw.get("spec")
    renewed = spec.get("renewTime") if isinstance(spec, dict) else None
    return LockSeen(record, instant(record.acquire_time), instant(renewed))


def in_words(failure: ApiFailure) -> str:
    """Of a request for our custom resources."""
    if failure.kind is Failure.NOT_FOUND:
        return "the CRD is not installed there (kubectl apply -f deploy/crds)"
    if failure.kind is Failure.UNAUTHORIZED:
        return f"{failure}: its credentials have expired, or are another's; log in to it again"
    return str(failure)
