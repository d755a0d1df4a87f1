"""Clusters of one pool, each with an API server of its own, and coordination APIs that are those same servers.

What is the product's: elector, arbiter and all that the arbiter is made of.  What is a model: the servers, their
CardanoForgeClusters, the state sockets, the node.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import random
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from pool_record import PoolRecord

from kube.errors import ApiFailure, Failure
from kube.forge_clusters import (
    CARRIER,
    MANAGER,
    ClusterChange,
    ForgeCluster,
    owned_by_others,
    parse_cluster,
    parse_spec,
    rfc3339,
    without,
)
from kube.session import WATCH_GRACE_S
from policy import replicas
from policy.arbitration import ForgeState
from policy.lease import LeaseRecord

from simulated_api import PathState, Session, SimulatedApi
from simulated_pod import Pod
from simulated_time import Clock, wall_s

Json = dict[str, Any]

POOL = "pool1simulatedpool"
LABEL = "mainnet-pool1simul"
BUMP = 1000
"""So many versions a restored server leaves out."""


class Server(SimulatedApi):
    """A cluster's API server: its Lease, the pool's lock, the CardanoForgeClusters."""

    def __init__(self, name: str, rng: random.Random, on_write: Callable[[str, str, LeaseRecord | None], None]) -> None:
        super().__init__(rng, lambda by, record: on_write(name, by, record))
        self.name = self.identity = name
        self.lock = _Lock(self, rng, lambda by, record: on_write(f"the pool's lock on {name}", by, record))
        self.lock.deafened, self.lock.asked = self.deafened, self.asked
        self.clusters = Objects(self)

    def lease(self, name: str) -> SimulatedApi:
        return self.lock if name.startswith("cardano-pool-") else self

    def stop(self) -> None:
        super().stop()
        self.lock.wake()
        self.clusters.wake()

    def start(self) -> None:
        super().start()
        self.lock.forget()
        self.clusters.forget()

    def break_path(self, pod: str, state: PathState) -> None:
        self.paths[pod] = state
        for each in (self, self.lock):
            each.wake()
        self.clusters.wake()

    def end_watches(self, how: Failure | None) -> None:
        """From now on each as soon as it is open; None: no more."""
        self.hasty = self.lock.hasty = how
        for each in (self, self.lock, self.clusters):
            each.wake()

    def mend_path(self, pod: str) -> None:
        self.paths.pop(pod, None)

    def delay_watches(self, late: bool) -> None:  # as a switch
        """What they would tell now they tell when that is over."""
        self.late = self.lock.late = late
        for each in (self, self.lock, self.clusters):
            each.wake()

    def backup(self, *, whole: bool = False) -> Callable[[], None]:
        """What restores the server to how it is now: the pool's objects, or (`whole`) the cluster's own Lease, too.

        The lock's versions begin again (A6), the cluster's Lease's do not (A1): what is there has the version that it
        had, and none that was given since is given again, as after `--bump-revision … --mark-compacted`.
        """
        own, record, version = self.record, self.lock.record, self.lock.version
        objects, at = copy.deepcopy(self.clusters.objects), self.clusters.version

        def restore() -> None:
            self.stop()
            if whole:
                self.record, self.version = own, self.version + BUMP
            self.lock.record, self.lock.version = record, version
            self.clusters.objects, self.clusters.version = copy.deepcopy(objects), at
            self.start()

        return restore


class _Lock(SimulatedApi):
    """The pool's lock on one server: as reachable as the server is."""

    def __init__(self, server: Server, rng: random.Random, on_write: Callable[[str, LeaseRecord | None], None]) -> None:
        super().__init__(rng, on_write)
        self._server = server

    def path(self, pod: str) -> PathState:
        return self._server.path(pod)

    def forget(self) -> None:
        self.forgotten = self.version
        self.history.clear()

    @property
    def up(self) -> bool:
        return self._server.up

    @up.setter
    def up(self, _: bool) -> None:
        """The server's."""


class Objects:
    """The CardanoForgeClusters of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.objects: dict[str, Json] = {}
        self.version = 500
        self.history: list[tuple[int, str, Json]] = []
        self.forgotten = self.version
        self.watches: list[asyncio.Event] = []

    def wake(self) -> None:
        for each in self.watches:
            each.set()

    def forget(self) -> None:
        self.forgotten = self.version
        self.history.clear()

    def compact(self, version: int) -> None:
        self.forgotten = max(self.forgotten, version)
        self.history = [entry for entry in self.history if entry[0] > version]

    def put(self, name: str, body: Json) -> Json:
        self.version += 1
        old = self.objects.get(name)
        body = body | {"metadata": dict(body["metadata"])}
        generation = old["metadata"].get("generation", 0) if old is not None else 0
        if old is None or old.get("spec") != body.get("spec"):
            generation += 1
        body["metadata"] |= {"resourceVersion": str(self.version), "generation": generation, "uid": name}
        self.objects[name] = body
        self.history.append((self.version, "MODIFIED" if old is not None else "ADDED", body))
        self.wake()
        return body

    def delete(self, name: str) -> None:
        if (body := self.objects.pop(name, None)) is not None:
            self.version += 1
            gone = body | {"metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
            self.history.append((self.version, "DELETED", gone))
            self.wake()

    def edit(self, name: str, spec: Json) -> None:
        """As a person with kubectl does: a merge patch of the spec."""
        if name in self.objects:
            self.put(name, merge(self._owned(self.objects[name], {"spec": spec}, "kubectl-patch"), {"spec": spec}))

    def _owned(self, body: Json, patch: Json, manager: str) -> Json:
        """The object with a managedFields entry for what the patch sets."""
        body = body | {"metadata": dict(body["metadata"])}
        entries = [e for e in body["metadata"].get("managedFields", []) if e["manager"] != manager]
        mine = next((e for e in body["metadata"].get("managedFields", []) if e["manager"] == manager), {})
        fields = merge(mine.get("fieldsV1", {}), _fields({"spec": patch.get("spec", {})}))
        body["metadata"]["managedFields"] = [*entries, {"manager": manager, "fieldsV1": fields}]
        return body


class ForgeClusters:
    """In place of a `kube.forge_clusters.ForgeClusterClient`."""

    def __init__(self, session: Session, _namespace: str, _pool: str, *, group: str, version: str) -> None:
        del group, version
        self._session = session
        self._server = session.api
        assert isinstance(self._server, Server)
        self._objects = self._server.clusters

    async def every(self, *, timeout_s: float) -> tuple[list[ForgeCluster], str]:
        def work() -> tuple[list[ForgeCluster], str]:
            return [self._read(body) for body in self._objects.objects.values()], str(self._objects.version)

        return await self._session.request("list", timeout_s, work)

    async def get(self, name: str, *, timeout_s: float) -> ForgeCluster:
        return await self._session.request("get", timeout_s, lambda: self._read(self._known(name)))

    async def watch(self, version: str, *, timeout_s: int) -> AsyncGenerator[ClusterChange, None]:
        objects, server, rng = self._objects, self._server, self._server.rng
        loop, pod = asyncio.get_running_loop(), self._session.pod
        self._session.requests_total["watch"] += 1
        server.open_watch(pod)
        await asyncio.sleep(rng.uniform(0.001, 0.01))
        if server.path(pod) is PathState.HANGING:
            await asyncio.sleep(5)
            raise ApiFailure(Failure.TIMEOUT, "no answer")
        self._must_be_reachable()
        if (ill := server.ill(server.path(pod))) is not None:
            raise ill[0]
        at, until, news = int(version), loop.time() + timeout_s, asyncio.Event()
        deafened = server.deafened[pod]
        if at < objects.forgotten or server.hasty is Failure.GONE:
            raise ApiFailure(Failure.GONE, "too old")
        objects.watches.append(news)
        try:
            while loop.time() < until and server.hasty is None:
                news.clear()
                silent = server.late or server.deafened[pod] != deafened
                for each, kind, body in [] if silent else [entry for entry in objects.history if entry[0] > at]:
                    at = each
                    await asyncio.sleep(rng.uniform(0.0005, 0.02))
                    if server.path(pod) is PathState.HANGING:
                        await asyncio.sleep(30)
                        raise ApiFailure(Failure.TIMEOUT, "a dead connection")
                    yield ClusterChange(kind, self._read(body), str(each))
                self._must_be_reachable()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(until - loop.time()):
                        await news.wait()
            if server.deafened[pod] != deafened:
                await asyncio.sleep(WATCH_GRACE_S)
                raise ApiFailure(Failure.TIMEOUT, "a dead connection")
        finally:
            objects.watches.remove(news)

    async def create(self, name: str, body: Json, *, timeout_s: float) -> ForgeCluster:
        def work() -> ForgeCluster:
            if name in self._objects.objects:
                raise ApiFailure(Failure.ALREADY_EXISTS, "there is one")
            return self._put(name, body, {}, CARRIER)

        return await self._session.request("create", timeout_s, work)

    async def apply(self, name: str, body: Json, *, timeout_s: float) -> ForgeCluster:
        def work() -> ForgeCluster:
            if name not in self._objects.objects and body["metadata"].get("uid"):
                raise ApiFailure(Failure.CONFLICT, "no existing object was found")
            known = self._objects.objects.get(name, {})
            wanted = body["metadata"].get("resourceVersion")
            if known and wanted not in (None, known["metadata"]["resourceVersion"]):
                raise ApiFailure(Failure.CONFLICT, "another version")
            spec = {"spec": body.get("spec", {})}
            if merge(known, spec) != merge(known, without(spec, owned_by_others(known))):
                raise ApiFailure(Failure.CONFLICT, "what another manager owns would be changed")
            return self._put(name, body, self._objects.objects.get(name, {}), MANAGER)

        return await self._session.request("patch", timeout_s, work)

    async def patch(self, name: str, body: Json, *, version: str, manager: str, timeout_s: float) -> ForgeCluster:
        return await self._session.request("patch", timeout_s, lambda: self._patch(name, body, version, manager))

    async def patch_status(self, known: ForgeCluster, status: Json, *, timeout_s: float) -> ForgeCluster:
        return await self._session.request(
            "patch", timeout_s, lambda: self._patch(known.name, {"status": status}, known.version, MANAGER)
        )

    def _patch(self, name: str, body: Json, version: str, manager: str) -> ForgeCluster:
        known = self._known(name)
        if version and known["metadata"]["resourceVersion"] != version:
            raise ApiFailure(Failure.CONFLICT, "another version")
        return self._put(name, body, known, manager)

    def _put(self, name: str, body: Json, known: Json, manager: str) -> ForgeCluster:
        known = known or {"metadata": {"name": name}, "spec": {}}
        owned = self._objects._owned(known, body, manager)
        return self._read(self._objects.put(name, merge(owned, body)))

    def _known(self, name: str) -> Json:
        if name not in self._objects.objects:
            raise ApiFailure(Failure.NOT_FOUND, "there is none")
        return self._objects.objects[name]

    @staticmethod
    def _read(body: Json) -> ForgeCluster:
        return parse_cluster(body)

    def _must_be_reachable(self) -> None:
        if self._server.path(self._session.pod) is PathState.REFUSED:
            raise ApiFailure(Failure.UNREACHABLE, "refused")


def merge(target: Json, patch: Json) -> Json:
    """RFC 7386.  Shares with the target what it leaves as it is: nobody writes into an object that he has read."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = merge(result.get(name) or {}, value)
        else:
            result[name] = value
    return result


def _wanted(body: Json) -> tuple[object, ...]:
    """What an operator says by it; empty: nothing, as there is none.  A field that is not there says its default."""
    return replicas.spec_key(parse_spec(body["spec"])) if "spec" in body else ()


def _told(body: Json) -> tuple[Any, ...]:
    """Of a status, what is the same wherever it was written."""
    status = body.get("status", {})
    return tuple(status.get(name) for name in ("effectiveState", "effectivePriority", "activeLeader", "forgingEnabled"))


def _fields(body: Json) -> Json:
    return {f"f:{name}": _fields(value) if isinstance(value, dict) else {} for name, value in body.items()}


@dataclasses.dataclass
class Fleet(PoolRecord):
    """Some clusters with some pods each, and what was seen of them."""

    seed: int
    folder: Path
    regions: tuple[str, ...] = ("a-east", "b-west", "c-north")
    pods_each: int = 2
    members: int = 0
    """How many of the servers coordinate, from the first on; 0: all."""
    hold_down_s: float = 60
    clocks: float = 0.0
    """Up to so many hours the pods' wall clocks are off, and up to this many times 0.5 % their rates."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # a schedule, no secret
        self.servers = {name: Server(name, self.rng, self._written) for name in self.regions}
        coordinators = list(self.servers.values())[: self.members or len(self.servers)]
        self.clusters: dict[str, list[Pod]] = {}
        for index, region in enumerate(self.regions):
            environment = {
                "ENABLE_CLUSTER_MANAGEMENT": "true",
                "POOL_ID": POOL,
                "CLUSTER_REGION": region,
                "CLUSTER_PRIORITY": str(index + 1),
                "PREEMPTION_DELAY": str(self.hold_down_s),
                "COORDINATION_KUBECONFIGS": ",".join(f"/k/{server.name}" for server in coordinators),
            }
            self.clusters[region] = [
                Pod(
                    number,
                    self.folder / region / str(number),
                    self.servers[region],
                    self.changed,
                    name=f"{region}-{number}",
                    environment=environment,
                    coordinators=coordinators,
                )
                for number in range(self.pods_each)
            ]
        self.coordinators = coordinators
        self.pods = [pod for pods in self.clusters.values() for pod in pods]
        for pod in self.pods:
            rate = 1 + 0.005 * self.clocks * self.rng.uniform(-1, 1)
            pod.clock = Clock(rate, 3600 * self.clocks * self.rng.uniform(-1, 1))

    def object_name(self, region: str) -> str:
        return f"mainnet-{POOL[:10]}-{region}"

    def forging_region(self) -> str:
        """Empty: none, or more than one."""
        regions = [region for region, pods in self.clusters.items() if any(pod.node.forging for pod in pods)]
        return regions[0] if len(regions) == 1 else ""

    def spec(self, region: str) -> Json:
        """As the first coordination API has it."""
        found: Json = self.coordinators[0].clusters.objects.get(self.object_name(region), {}).get("spec", {})
        return found

    def patch(self, region: str, spec: Json, *, on: str = "") -> None:
        """kubectl patch, on one of the coordination APIs, if one can be reached."""
        up = [each for each in self.coordinators if each.up and on in ("", each.name)]
        if not up:
            return
        server = self.rng.choice(up)
        self.tell(f"{region} is told {spec} on {server.name}")
        server.clusters.edit(self.object_name(region), spec)

    def first(self) -> str:
        """The region that is to forge if all can, by what the first coordination API has; empty: none may."""
        found = []
        for region in self.regions:
            body = self.coordinators[0].clusters.objects.get(self.object_name(region))
            spec = parse_cluster(body).spec if body is not None else None
            if spec is not None and spec.effective_state(wall_s()) is not ForgeState.DISABLED:
                enabled = spec.effective_state(wall_s()) is ForgeState.ENABLED
                found.append((not enabled, spec.base_priority(wall_s()), region))
        return min(found)[2] if found else ""

    def pause(self, reason: str) -> None:
        """`forgectl pause`, on every coordination API."""
        for server in self.coordinators:
            if server.lock.record is not None:
                server.lock.write("", dataclasses.replace(server.lock.record, paused=f"true {reason}"))

    def spoilt(self, region: str) -> list[str]:
        """Servers on which its object cannot be read: whoever spoilt it has to mend it."""
        objects = {server.name: server.clusters.objects.get(self.object_name(region)) for server in self.coordinators}
        return [name for name, body in objects.items() if body is not None and parse_cluster(body).spec is None]

    def expiry(self, in_s: float) -> str:
        """An instant for override.expiresAt, by true time."""
        return rfc3339(wall_s() + in_s)

    def _written(self, where: str, by: str, record: LeaseRecord | None) -> None:
        said = "nothing" if record is None else f"{record.holder or 'nobody'} term {record.transitions}"
        self.tell(f"{where}: {said}, written by {by or 'hand'}")

    async def until(self, what: Callable[[], bool], most_s: float, why: str) -> None:
        """A violation after `most_s` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + most_s
        while not what():
            if loop.time() >= end:
                self.violations.append(f"{loop.time():.4f}: not within {most_s:.0f} s: {why}")
                return
            await asyncio.sleep(0.02)

    async def until_somebody_forges(self, most_s: float) -> None:
        await self.until(lambda: bool(self.forgers()), most_s, "somebody forges")

    async def until_the_best_forges(self, most_s: float) -> None:
        """The one that comes first by state and priority, all being well.

        It may be Disabled for good: of two edits at once on two servers the one that disables counts.
        """

        def rank(region: str) -> tuple[bool, int, str]:
            spec = self.spec(region)
            return spec.get("forgeState") == "Disabled", spec.get("priority", 100), region

        await self.until(lambda: self.forging_region() == min(self.regions, key=rank), most_s, "the best forges")

    async def until_the_copies_agree(self, most_s: float) -> None:
        """Each region's object says the same on all coordination APIs, not missing, its status written there lately."""

        def told(region: str) -> list[tuple[Any, Any, Any]]:
            found = [server.clusters.objects.get(self.object_name(region), {}) for server in self.coordinators]
            return [(_wanted(one), one.get("metadata", {}).get("annotations"), _told(one)) for one in found]

        def marked(region: str) -> bool:
            """Nobody edited it since its copies were brought into step."""
            found = [parse_cluster(server.clusters.objects[self.object_name(region)]) for server in self.coordinators]
            copies = [replicas.Copy(True, one.spec, one.mark) for one in found if one.spec is not None]
            return len(copies) == 1 or not any(one.edited for one in copies)

        def alike() -> bool:
            found = {region: told(region) for region in self.regions}
            return all(
                copies[0][0] and all(one == copies[0] for one in copies) and marked(region)
                for region, copies in found.items()
            )

        await self.until(alike, most_s, f"the copies agree: {[told(region) for region in self.regions]}")

    async def until_all_have(self, region: str, name: str, value: Any, most_s: float) -> None:
        """A field of its spec, on every coordination API."""

        def there() -> bool:
            found = [server.clusters.objects.get(self.object_name(region), {}) for server in self.coordinators]
            return all(one.get("spec", {}).get(name) == value for one in found)

        await self.until(there, most_s, f"{region} has {name} {value} everywhere")

    async def until_forging_in(self, region: str, most_s: float) -> None:
        await self.until(lambda: self.forging_region() == region, most_s, f"{region} forges")
