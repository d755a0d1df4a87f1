"""The pool's CardanoForgeClusters on every coordination API: what they say, and our own kept in step.

Every arbiter watches all of them; only that of its cluster's leading pod writes, and only its own object: it makes it
if it is missing, sets what the environment says where nobody else has (server-side apply), carries an operator's change
from one coordination API to the others (`policy.replicas`), and writes the status, at each change and as a heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from config import Config
from ipc.complaints import Complaint
from ipc.messages import HealthReport, NodeSample
from kernel.clock import boottime_ns
from kube import events
from kube.errors import ApiFailure, Failure
from kube.forge_clusters import (
    CARRIER,
    MANAGER,
    MARK,
    POOL_LABEL,
    ForgeCluster,
    ForgeClusterClient,
    difference,
    duration,
    owned_by_others,
    parse_spec,
    spec_of,
    without,
)
from kube.leases import went_back
from kube.session import ApiSession, Json
from policy import replicas, timing
from policy.arbitration import Cluster, ClusterSpec, ForgeState
from policy.wall_time import rfc3339
from workers.cluster_report import Report, counter_of, news, of_status, status
from workers.reopening import Reopening
from workers.tasks import end, fail_stop, woken

log = logging.getLogger("arbiter")

HEARTBEAT: Final = 20 * timing.SECOND
TIMEOUT_S: Final = 3.0
RETRY_S: Final = 1.0
NO_CRD_S: Final = 15.0
MOST_CLUSTERS: Final = 200
DEAF: Final = 5 * timing.SECOND
"""A watch that has not told of our own write for so long is dead, whatever its connection says."""
MOST_NEWS: Final = 20
_WATCH_S: Final = timing.WATCH_TIMEOUT_S
_OUTDATED: Final = frozenset({Failure.CONFLICT, Failure.ALREADY_EXISTS, Failure.NOT_FOUND})
"""The object is another by now, or gone."""


@dataclass(frozen=True, slots=True)
class Own:
    """What our own object is to say; None in place of one: another pod leads this cluster."""

    report: Report
    health: HealthReport | None
    sample: NodeSample | None
    tip_lag_s: float | None


@dataclass(slots=True)
class _Seen:
    cluster: ForgeCluster
    changed_at: int
    """When its status was last seen to change, or seen at all."""
    said_at: int
    """Its status was not written before this instant (ns); 0: nobody knows, it was found as it is."""


@dataclass(eq=False, slots=True)
class _Line:
    """One coordination API."""

    name: str
    session: ApiSession
    client: ForgeClusterClient
    unread: Complaint
    unwritten: Complaint
    reopening: Complaint
    seen: dict[str, _Seen] = field(default_factory=dict)
    ok: bool = False
    crd_ok: bool = True
    tried: bool = False
    """Its clusters were read, or could not be."""
    applied: bool = False
    """What the environment says, in this life."""
    written: Report | None = None
    written_at: int = 0
    following: asyncio.Task[None] | None = None
    between: Reopening = field(default_factory=Reopening)
    """Its watches."""
    wrote: str = ""
    """Version of our object that came of our last write."""
    looked_at: int = 0
    """When the last list that was answered was asked for (ns)."""
    listed: bool = False
    """Since its clusters were followed anew: what was seen is not from before."""
    told: str = "0"
    """Version of our object that a list or a watch told last."""
    failed: bool = False
    refused: str = ""
    """Version of our object upon which our last write was refused."""
    marks: dict[str, str] = field(default_factory=dict)
    """Of each object's copy, as it counts, since it was listed."""
    brought: dict[str, str] = field(default_factory=dict)
    """The older marks that came with saved copies: such a one was edited upon what stands in `marks`."""
    writable: bool = True
    """Nothing was refused there since it was listed, or took a write."""
    alters: str = ""
    """Digest of the spec that was written there and is not what the server keeps, since it was listed."""
    news: deque[tuple[str, str, bool]] = field(default_factory=lambda: deque(maxlen=MOST_NEWS))
    """What its events have not told yet."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Clusters:
    """All clusters of one pool."""

    def __init__(self, config: Config, sessions: Sequence[ApiSession], on_change: Callable[[], None]) -> None:
        self._config = config
        self._name = config.forge_cluster_name
        self._pool = f"{config.cardano_network}-{config.pool_label}"
        self._tell = on_change
        self._views: dict[str, Cluster] = {}
        """Each made anew after a change of what was read of it."""
        self._listed: list[Cluster] | None = None
        """All of them: asked for several times at each judgement."""
        self._statuses: list[Json] | None = None
        self._known = False
        self._last_good: ClusterSpec | None = None
        """Of our own object: a slip of the pen in it, or its deletion, is not to change who forges."""
        members = zip(config.coordination_kubeconfigs, sessions, strict=True)
        self._lines = [self._line(each.name, session) for each, session in members]
        self._own: Own | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _line(self, name: str, session: ApiSession) -> _Line:
        config, facts = self._config, {"member": name}
        client = ForgeClusterClient(
            session, config.coordination_namespace, self._pool, group=config.crd_group, version=config.crd_version
        )
        unread, unwritten = "the pool's clusters cannot be read", "our CardanoForgeCluster cannot be written"
        return _Line(
            name,
            session,
            client,
            unread=Complaint(log, "clusters_failed", unread, facts=facts),
            unwritten=Complaint(log, "cluster_unwritten", unwritten, facts=facts),
            reopening=Complaint(
                log,
                "watch_reopened",
                "the watch is dead: opening another",
                level=logging.INFO,
                passes=True,
                facts=facts,
            ),
        )

    def start(self) -> None:
        for line in self._lines:
            self._begin_following(line)
            task = asyncio.create_task(self._keep_own(line), name=f"own cluster {line.name}")
            task.add_done_callback(fail_stop)
            self._tasks.append(task)

    def _begin_following(self, line: _Line) -> None:
        if line.following is not None:
            line.following.cancel()
        line.listed = False
        line.following = asyncio.create_task(self._follow(line), name=f"clusters {line.name}")
        line.following.add_done_callback(fail_stop)

    async def close(self) -> None:
        for task in (*self._tasks, *(line.following for line in self._lines if line.following is not None)):
            await end(task)

    def say(self, own: Own | None) -> None:
        """What our object is to say from now on; None: we do not lead this cluster (any more)."""
        before = self._own.report if self._own is not None else None
        self._own = own
        if (own.report if own is not None else None) == before:
            return
        for line in self._lines:
            line.news.extend(news(before, own.report) if own is not None else ())
            line.wake.set()

    @property
    def crd_ok(self) -> tuple[bool, ...]:
        return tuple(line.crd_ok for line in self._lines)

    @property
    def known(self) -> bool:
        """Whether a member has told all that it knows, and each has been asked: one may say Disabled.

        Once known, it stays so: what was read last stands while nobody can be read.
        """
        if not self._known:
            self._known = any(line.ok for line in self._lines) and all(line.tried for line in self._lines)
        return self._known

    @property
    def token(self) -> int:
        """The highest fencing token in any status of this pool."""
        tokens = [told.get("fencingToken") for told in self._told()]
        return max((token for token in tokens if type(token) is int), default=0)

    @property
    def counter(self) -> int | None:
        """The highest certificate counter in any status of this pool; None: there is none."""
        counters = map(counter_of, self._told())
        return max((counter for counter in counters if counter is not None), default=None)

    def _told(self) -> list[Json]:
        """Every status of this pool that was read."""
        if self._statuses is None:
            read = [seen.cluster for line in self._lines for seen in line.seen.values()]
            self._statuses = [one.status for one in read if not self._wrong_pool(one)]
        return self._statuses

    def views(self) -> list[Cluster]:
        """Every cluster of the pool, by its own word; the spec as the copies agree."""
        if self._listed is not None:
            return self._listed
        names = dict.fromkeys(name for line in self._lines for name in line.seen)
        foremost = sorted(names, key=lambda name: name != self._name)[:MOST_CLUSTERS]
        self._views = {name: self._views.get(name) or self._view(name) for name in foremost}
        found = list(self._views.values())
        if self._name not in names and self._last_good is not None:
            gone = "it was deleted, and is made anew"
            found.append(Cluster(self._name, self._config.cluster_region, self._last_good, unreadable=gone, ours=True))
        self._listed = found
        return found

    def spec(self) -> ClusterSpec | None:
        """Ours, as an operator wants it; None: not known, or unreadable."""
        return next((view.spec for view in self.views() if view.name == self._name), None)

    def _on_change(self, name: str = "") -> None:
        """`name`: of the only cluster of which something else was read."""
        if name:
            self._views.pop(name, None)
        else:
            self._views = {}
        self._listed = self._statuses = None
        self._tell()

    def _copies(self, name: str) -> tuple[list[_Line], list[replicas.Copy]]:
        """The readable copies of one object, and whose they are, in the order of the configuration."""
        lines, found = [], []
        for line in self._lines:
            seen = line.seen.get(name)
            if seen is not None and (spec := seen.cluster.spec) is not None:
                lines.append(line)
                found.append(replicas.Copy(line.ok, spec, seen.cluster.mark, line.writable, line.alters))
        return lines, found

    def _stops(self, name: str) -> list[ClusterSpec]:
        """Of copies that can be reached, and cannot be read as a whole: that they say Disabled."""
        read = [line.seen[name].cluster for line in self._lines if name in line.seen and line.ok]
        return [one.stops for one in read if one.stops is not None and not self._wrong_pool(one)]

    def _view(self, name: str) -> Cluster:
        seen = [line.seen[name] for line in self._lines if name in line.seen]
        newest = max(seen, key=lambda one: one.changed_at)
        _, copies = self._copies(name)
        counting = replicas.counts(copies)
        ours = name == self._name
        wrong = next((w for one in seen if (w := self._wrong_pool(one.cluster))), "")
        cluster = of_status(name, newest.cluster.region, newest.cluster.status)
        spec = copies[counting].spec if counting is not None and not wrong else None
        if ours:
            spec = self._last_good = spec or self._last_good
        for stops in self._stops(name):
            spec = (spec or ClusterSpec()).stopped_by(stops)
        return dataclasses.replace(
            cluster,
            spec=spec,
            unreadable=wrong or next((one.cluster.unreadable for one in seen if one.cluster.unreadable), ""),
            changed_at=newest.changed_at,
            said_at=newest.said_at,
            ours=ours,
        )

    def _foremost(self, seen: dict[str, _Seen]) -> dict[str, _Seen]:
        """As many as are looked at: ours, then those with a pool's names, whose status only they themselves can write.

        Whoever may create in the namespace can put any number of others there.
        """

        def key(name: str) -> tuple[bool, bool, bool]:
            return name != self._name, not name.startswith(f"{self._pool}-"), not seen[name].cluster.status

        return {name: seen[name] for name in sorted(seen, key=key)[:MOST_CLUSTERS]}

    def _wrong_pool(self, cluster: ForgeCluster) -> str:
        config = self._config
        if not cluster.name.startswith(f"{self._pool}-"):
            return f"its name does not begin with {self._pool}-, so it is no cluster of this pool; rename or delete it"
        if cluster.pool_id and config.pool_id and cluster.pool_id != config.pool_id:
            return f"spec.pool.id is another pool's than POOL_ID; rename or delete {cluster.name}"
        if cluster.network and cluster.network != config.cardano_network:
            return f"spec.network.name is not CARDANO_NETWORK={config.cardano_network}; rename or delete {cluster.name}"
        return ""

    # --- following ---

    async def _follow(self, line: _Line) -> None:
        loop, lost = asyncio.get_running_loop(), False
        while True:
            try:
                asked = boottime_ns()
                listed, version = await line.client.every(timeout_s=TIMEOUT_S)
                now = boottime_ns()
                line.marks, line.brought = {}, {}
                if lost:  # what was written since, or before a backup, nobody can tell
                    line.looked_at, lost = 0, False
                line.seen = self._foremost({one.name: self._note(line, one, now, listed=True) for one in listed})
                line.looked_at = asked
                line.told, line.wrote, line.listed, line.writable, line.alters = version, "", True, True, ""
                self._fine(line)
                self._on_change()
                line.wake.set()
                while version:
                    line.between.opened(loop.time())
                    version = await self._watch(line, version)
                    await asyncio.sleep(line.between.ended(loop.time()))
            except ApiFailure as failure:
                lost = lost or failure.kind is Failure.GONE
                if failure.kind is Failure.GONE:
                    await asyncio.sleep(line.between.gone())
                else:
                    self._failed(line, failure)
                    await asyncio.sleep(NO_CRD_S if not line.crd_ok else RETRY_S)

    async def _watch(self, line: _Line, version: str) -> str:
        """One watch; the version from which to go on."""
        async with contextlib.aclosing(line.client.watch(version, timeout_s=_WATCH_S)) as changes:
            async for change in changes:
                line.between.told()
                name = change.cluster.name
                known = line.seen.get(name)
                if change.kind == "DELETED":
                    for known_there in (line.seen, line.marks, line.brought):
                        known_there.pop(name, None)
                elif known is not None and went_back(change.version, known.cluster.version):
                    pass  # it is late: the answer to a write of ours has told more
                else:
                    if replicas.older(change.cluster.mark, line.marks.get(name, "")):
                        line.brought[name] = change.cluster.mark
                    line.seen[name] = self._note(line, change.cluster, boottime_ns())
                    if len(line.seen) > MOST_CLUSTERS:
                        line.seen = self._foremost(line.seen)
                        line.marks = {each: line.marks.get(each, "") for each in line.seen}
                        line.brought = {each: mark for each, mark in line.brought.items() if each in line.seen}
                version = change.version or version
                self._on_change(name)
                if name == self._name:
                    line.told = change.version or line.told
                    for each in self._lines:  # a change is carried to the others
                        each.wake.set()
        return version

    def _note(self, line: _Line, cluster: ForgeCluster, now: int, *, listed: bool = False) -> _Seen:
        """`listed`: it was found so, and may have been written at any time since the list before, or long before."""
        old = line.seen.get(cluster.name)
        cluster = self._as_it_counts(line, cluster)
        if old is not None and old.cluster.status == cluster.status:
            return _Seen(cluster, old.changed_at, old.said_at)
        if not listed:
            return _Seen(cluster, now, now)
        if old is None or not line.looked_at or went_back(cluster.version, old.cluster.version):
            return _Seen(cluster, now, 0)
        return _Seen(cluster, now, max(old.said_at, line.looked_at))

    @staticmethod
    def _as_it_counts(line: _Line, cluster: ForgeCluster) -> ForgeCluster:
        """A saved copy that somebody applies brings its mark along, which would make of his edit something old.

        A member that came back from a backup has older copies, too: but that breaks its watches, and is listed.
        """
        name = cluster.name
        if cluster.mark and line.brought.get(name) == cluster.mark:
            return dataclasses.replace(cluster, mark=line.marks[name])
        line.brought.pop(name, None)
        line.marks[name] = cluster.mark
        return cluster

    def _fine(self, line: _Line) -> None:
        line.ok, line.tried, line.crd_ok = True, True, True
        line.unread.over()

    def _failed(self, line: _Line, failure: ApiFailure) -> None:
        line.ok, line.tried = False, True
        line.crd_ok = failure.kind is not Failure.NOT_FOUND
        self._complain(line.unread, failure)
        self._on_change()

    def _complain(self, complaint: Complaint, failure: ApiFailure) -> None:
        why = str(failure)
        if failure.kind is Failure.NOT_FOUND:
            why = "the CRD is not installed (kubectl apply -f deploy/crds)"
        elif failure.kind is Failure.FORBIDDEN:
            why = f"{why}: the Role lacks a right (deploy/rbac)"
        elif failure.kind is Failure.INVALID:
            why = f"{why}: {self._name} or the CRD there does not fit this version (kubectl apply -f deploy/crds)"
        kind = str(failure.kind)
        complaint.again(kind, kind=kind, why=why)

    # --- our own ---

    async def _keep_own(self, line: _Line) -> None:
        while True:
            line.wake.clear()
            writes = self._own is not None and line.ok and line.listed
            if writes:
                try:
                    await self._put_right(line)
                    line.failed, line.refused = False, ""
                    line.unwritten.over()
                except ApiFailure as failure:
                    line.failed = True
                    line.refused = self._version(line) if failure.kind in _OUTDATED else ""
                    if not line.refused and failure.kind not in (Failure.CONFLICT, Failure.ALREADY_EXISTS):
                        self._complain(line.unwritten, failure)
            pause = HEARTBEAT / timing.SECOND
            if writes:
                due = line.written_at + (DEAF if self._unheard(line) else HEARTBEAT) - boottime_ns()
                pause = RETRY_S if line.failed else max(due / timing.SECOND, 0.01)
            await woken(line.wake, pause)
            if line.failed:
                await asyncio.sleep(0.05)  # the news that made us fail is on its way

    async def _put_right(self, line: _Line) -> None:
        """Make our object on this member what it should be."""
        self._hear(line)
        if line.refused and line.refused == self._version(line):  # the watch has not told why
            await self._look(line)
        if self._name not in line.seen:
            await self._make(line)
        elif not line.applied:
            await self._apply(line)
        line.applied = True
        await self._agree(line)
        await self._write_status(line)
        await self._tell_news(line)

    async def _look(self, line: _Line) -> None:
        """Our object as it is now."""
        found = await self._get(line)
        if found is None:
            line.seen.pop(self._name, None)
            self._on_change(self._name)
            return
        if went_back(found.version, self._version(line)):  # restored from a backup: all that we saw there is void
            self._begin_following(line)
        self._take(line, found)

    async def _get(self, line: _Line) -> ForgeCluster | None:
        """Our object, labelled or not; None: it is not there."""
        try:
            return await line.client.get(self._name, timeout_s=TIMEOUT_S)
        except ApiFailure as failure:
            if failure.kind is not Failure.NOT_FOUND:
                raise
            return None

    def _version(self, line: _Line) -> str:
        seen = line.seen.get(self._name)
        return seen.cluster.version if seen is not None else ""

    @staticmethod
    def _unheard(line: _Line) -> bool:
        return went_back(line.told, line.wrote)

    def _hear(self, line: _Line) -> None:
        """A watch that has not told of our last write long after it is dead, though its connection stands."""
        if self._unheard(line) and boottime_ns() - line.written_at >= DEAF:
            line.reopening.again()
            self._begin_following(line)

    async def _make(self, line: _Line) -> None:
        """Our object is not among those with the label."""
        found = await self._get(line)
        if found is not None:
            self._take(line, found)
            await self._apply(line)
            if line.seen[self._name].cluster.label != self._pool:  # somebody's, and no opinion: nobody would see us
                await self._label(line)
            return
        _, copies = self._copies(self._name)
        body = self._defaults()
        stays = not copies and self._last_good is not None and self._last_good.state is ForgeState.DISABLED
        if stays:  # whoever deletes an object does not say that its cluster may forge
            body["spec"]["forgeState"] = str(ForgeState.DISABLED)
        spec, mark = replicas.made(copies, parse_spec(body["spec"]))
        if len(self._lines) > 1:
            body["metadata"]["annotations"] = {MARK: mark}
        if not copies and not stays:
            self._take(line, await line.client.apply(self._name, body, timeout_s=TIMEOUT_S))
            log.info("made our CardanoForgeCluster", extra={"event": "cluster_made", "member": line.name})
            return
        body["spec"] |= spec_of(spec)
        self._take(line, await line.client.create(self._name, body, timeout_s=TIMEOUT_S))
        if stays:
            why = "the object was deleted while it said Disabled, and says so again: enable the cluster if it may forge"
            line.news.append(("StaysDisabled", why, True))
            log.warning(why, extra={"event": "stays_disabled", "member": line.name})

    async def _apply(self, line: _Line) -> None:
        """Set what the environment says, where it is nobody else's."""
        known = line.seen[self._name].cluster
        body = self._defaults()
        if known.mark:  # what a manager does not apply any more is taken away
            body["metadata"]["annotations"] = {MARK: known.mark}
        body = without(body, owned_by_others(known.raw))
        # Without the uid, an apply would make one that is gone anew, less all that others had set: a Disabled too.
        # With the version, it needs no owner of each field to be refused where the mark was written meanwhile.
        body.setdefault("metadata", {}).update(uid=known.uid, resourceVersion=known.version)
        try:
            self._take(line, await line.client.apply(self._name, body, timeout_s=TIMEOUT_S))
        except ApiFailure as failure:
            if failure.kind not in (Failure.CONFLICT, Failure.INVALID):
                raise
            await self._look(line)
            seen = line.seen.get(self._name)
            if failure.kind is Failure.INVALID or seen is None or seen.cluster.uid != known.uid:
                raise
            if seen.cluster.version != known.version:
                raise  # somebody has edited it since; whose its fields are is known by now
            # Whose its fields are, nobody knows any more (its managedFields were cleared, or lost with a backup).
            log.warning(
                "the environment's values are not applied: the object's fields are others'",
                extra={"event": "defaults_not_applied", "member": line.name},
            )
            await self._label(line)

    async def _label(self, line: _Line) -> None:
        label = {"metadata": {"labels": {POOL_LABEL: self._pool}}}
        self._take(line, await line.client.patch(self._name, label, version="", manager=MANAGER, timeout_s=TIMEOUT_S))

    def _defaults(self) -> Json:
        config = self._config
        pool = {"id": config.pool_id, "idHex": config.pool_id_hex, "name": config.pool_name}
        health: Json = {
            "enabled": bool(config.health_check_endpoint),
            "interval": duration(config.health_check_interval),
            "timeout": duration(config.health_check_timeout),
            "failureThreshold": config.health_check_failure_threshold,
        }
        if config.health_check_endpoint:
            health["endpoint"] = config.health_check_endpoint
        return {
            "metadata": {"labels": {POOL_LABEL: self._pool}},
            "spec": {
                "network": {"name": config.cardano_network, "magic": config.network_magic},
                "pool": {k: v for k, v in (*pool.items(), ("ticker", config.pool_ticker)) if v},
                "application": {"type": config.application_type, "environment": config.cluster_environment},
                "region": config.cluster_region,
                "priority": config.cluster_priority,
                "healthCheck": health,
            },
        }

    async def _agree(self, line: _Line) -> None:
        """Bring this member's copy into step with the one that counts."""
        if len(self._lines) == 1:
            return
        lines, copies = self._copies(self._name)
        seen, step = line.seen.get(self._name), replicas.step(copies)
        if step is None or seen is None:
            return
        here, set_aside = seen.cluster, False
        if line in lines:
            index = lines.index(line)
            if index not in step.onto:
                return
            set_aside = replicas.sets_aside(copies, step, index)
        elif copies[step.source].edited or here.mark == step.mark:
            return  # ours is unreadable: the other is marked first; or it was spoilt since, for its author to mend
        old = here.raw.get("spec")
        parts = ("forgeState", "priority", "healthCheck", "override")
        before = {name: old[name] for name in parts if isinstance(old, dict) and name in old}
        body: Json = {
            "metadata": {"annotations": {MARK: step.mark}},
            "spec": difference(before, spec_of(copies[step.source].spec)),
        }
        try:
            found = await line.client.patch(
                self._name, body, version=here.version, manager=CARRIER, timeout_s=TIMEOUT_S
            )
        except ApiFailure as failure:
            line.writable = failure.kind in _OUTDATED
            self._wake_others(line)
            raise
        line.writable = True
        wanted = copies[step.source].spec
        if found.spec is not None and replicas.spec_key(found.spec) != replicas.spec_key(wanted):
            line.alters = replicas.digest(wanted)
        self._take(line, found)
        self._wake_others(line)
        if set_aside:
            kept = lines[step.source].name
            why = f"the spec as edited here did not know of the one on {kept}, which is kept; edit it again if need be"
            line.news.append(("EditSetAside", why, True))
            log.warning("an edit is set aside", extra={"event": "edit_set_aside", "member": line.name, "kept": kept})

    def _wake_others(self, line: _Line) -> None:
        for each in self._lines:
            if each is not line:
                each.wake.set()

    async def _write_status(self, line: _Line) -> None:
        own, seen, now = self._own, line.seen.get(self._name), boottime_ns()
        if own is None or seen is None:
            return
        if line.written == own.report and now - line.written_at < HEARTBEAT and seen.cluster.status:
            return
        known = seen.cluster
        wanted = status(
            own.report,
            known.status,
            config=self._config,
            generation=known.generation,
            health=own.health,
            sample=own.sample,
            tip_lag_s=own.tip_lag_s,
            now=rfc3339(int(time.time())),
        )
        written = await line.client.patch_status(known, wanted, timeout_s=TIMEOUT_S)
        self._take(line, written)
        line.written, line.written_at, line.wrote, line.writable = own.report, now, written.version, True

    async def _tell_news(self, line: _Line) -> None:
        """Events, on each member: an operator looks at whichever is near."""
        seen = line.seen.get(self._name)
        while line.news and seen is not None:
            reason, message, warning = line.news.popleft()
            about = events.Regarding(
                f"{self._config.crd_group}/{self._config.crd_version}",
                "CardanoForgeCluster",
                self._config.coordination_namespace,
                self._name,
                seen.cluster.uid,
            )
            await events.emit(
                line.session,
                about,
                reason=reason,
                message=message,
                warning=warning,
                pod=self._config.pod_name,
                wall_s=time.time(),
                timeout_s=TIMEOUT_S,
            )

    def _take(self, line: _Line, cluster: ForgeCluster) -> None:
        """What a request was answered; the watch may have told of something later meanwhile, and will not again."""
        known = line.seen.get(self._name)
        if known is not None and known.cluster.uid == cluster.uid and went_back(cluster.version, known.cluster.version):
            return
        line.seen[self._name] = self._note(line, cluster, boottime_ns())
        self._views.pop(self._name, None)
        self._listed = None
