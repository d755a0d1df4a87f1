"""The pools upon which a campaign is played: one cluster with three pods, and a fleet of three regions.

Real sidecars and simulated nodes, each pool around API servers of its own.  An arena knows who may be struck, how
everything is mended, and when its pool is at rest.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from devkit import keys
from devkit.api.server_protocol import SyncApiServer
from devkit.fleet import Fleet
from devkit.pods import Cluster, Pod, PodSet
from devkit.realapi.client import SetupError
from devkit.record import NS

from campaign_oracle import Turn, own_words, together, word
from fleets import Endpoints, health_check, new_apis, watch_health, whole
from hands import lease, put
from lanes import NAMESPACES, new_api

REFUSALS: Final = (OSError, http.client.HTTPException, SetupError, AssertionError, subprocess.TimeoutExpired)
"""What a request to an API server that another fault has struck may end with, or a command upon a busy machine."""
PATIENCE_S: Final = 3.0
"""With an API server that may stand still while an operator wants something of it."""
STEADY_S: Final = 3.5
"""A fleet whose forger is as new as that may be about to hand over once more: there is a hold-down, and a step back."""
HOLD_DOWN_S: Final = 0.25
"""PREEMPTION_DELAY.  A region that lost its fitness again and again waits up to 64 times as long for its way home."""
HOME_S: Final = 64 * HOLD_DOWN_S + 4
"""So long a round waits for that, not longer: a region that was passed over may come minutes later."""
SAID_AGAIN_S: Final = 10.0
"""Until an edit that undoes another one is on all servers.  If it is not, it was set aside, and is said again."""
FLEET_NAMESPACE: Final = "cardano"
PULSE_S: Final = 0.05


class Pulse:
    """A timer that notes how late it is: so long the machine itself stood still, for us at least."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=10_000)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        due = time.monotonic() + PULSE_S
        while not self._end.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            if now - due > PULSE_S / 2:
                self._late.append((now, now - due))
            due = now + PULSE_S

    def worst_since(self, began: int) -> float:
        """Seconds; `began`: CLOCK_MONOTONIC, ns."""
        return max((late for at, late in list(self._late) if at * 1e9 >= began), default=0.0)

    def close(self) -> None:
        self._end.set()
        self._thread.join(5)


class Arena:
    """What both kinds have in common."""

    name: str
    shared: str
    """The part of /status with holder and token of what makes one of all pods the forger."""
    one_lease: bool
    """Whether one Lease elects all pods."""
    pods: PodSet
    root: Path
    """Everything of the pods lies in it."""
    apis: dict[str, SyncApiServer]
    seed: bytes
    """Of the pool's keys."""

    def __init__(self) -> None:
        self.counter = 0
        """Of the pool's certificate."""
        self._owed: list[Callable[[], object]] = []
        self.frozen: set[int] = set()
        """Processes of API servers that stand still by our hand."""
        self.told: list[str] = []
        """What had to be done beside the plan, for whoever reports."""

    # --- whom ---

    def victim(self, whom: str, dice: random.Random) -> Pod:
        """One of: forger, standby, any."""
        forging = self.pods.forgers()
        idle = [pod for pod in self.pods.pods if pod not in forging]
        chosen = {"forger": forging, "standby": idle}.get(whom) or self.pods.pods
        return dice.choice(chosen)

    def nodes(self, now: int) -> dict[str, list[Any]]:
        return self.pods.nodes(now)

    # --- mending ---

    def insist(self, mend: Callable[[], object]) -> None:
        """Do it now or, if an API server does not let us, again until it does; it may be done twice."""
        try:
            mend()
        except REFUSALS:
            self._owed.append(mend)

    def settle_debts(self) -> bool:
        """What is still to be mended; whether nothing is left."""
        owed, self._owed = self._owed, []
        for mend in owed:
            self.insist(mend)
        return not self._owed

    # --- rest ---

    def heal(self) -> list[str]:
        """Whatever a fault may have left behind is mended; what was not meant to be there any more, in words."""
        found = []
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()
        for path in self.pods.paths:
            path.let_pass()
        for pod in self.pods.pods:
            pod.thaw([*pod.sidecar_pids(), pod.node_pid])
            pod.restart_node = True
            if not pod.sidecar_running():
                found.append(f"the sidecar of {pod.name} had ended")
                pod.revive()
        return found

    def at_rest(self) -> bool:
        """One forges, all could."""
        return not self.unrest()

    def unrest(self) -> list[str]:
        """Why the pool is not at rest, in words: one has to forge, all could, and each worker lives.

        A pod is ready while the last word of a worker that has just ended is valid.
        """
        forging = [pod.name for pod in self.pods.forgers()]
        found = [] if len(forging) == 1 else [f"{', '.join(forging) or 'nobody'} forges"]
        for pod in self.pods.pods:
            status = pod.status()
            ready = status.get("ready") or {"reasons": ["its gateway does not answer"]}
            if not ready.get("ready"):
                found.append(f"{pod.name} is not ready: {'; '.join(ready.get('reasons', ()))}")
            if gone := [name for name, worker in (status.get("workers") or {}).items() if not worker["connected"]]:
                found.append(f"{pod.name}: {', '.join(gone)} cannot be heard")
            if pod.name in forging and (status.get("leader") or {}).get("role") != "leader":
                found.append(f"{pod.name} forges, and its elector does not lead")
        return found

    def disturbed(self) -> None:
        """A round begins: what was seen of the pool's rest before it counts no more."""

    @property
    def home(self) -> bool:
        """Whether the pool, at rest, forges where it belongs, and will not go elsewhere by itself."""
        return True

    def contradictions(self) -> list[str]:
        """In what a pool at rest contradicts itself or its nodes' records: pods, metrics, objects, keys."""
        forging = self.pods.forgers()
        words = [word(pod, forges=pod in forging) for pod in self.pods.pods]
        found = [each for said in words for each in own_words(said, self.counter)]
        found += together(words, of=self.shared, one_lease=self.one_lease)
        for pod in forging:
            try:
                used = json.loads(pod.node_control("state")).get("counter")
            except (OSError, ValueError) as error:
                found.append(f"{pod.name}: its node does not say by which certificate it forges: {error}")
                continue
            if used != self.counter:
                found.append(f"{pod.name} forges by the certificate with counter {used}, not {self.counter}")
        return found + self._objects(forging[0].name if len(forging) == 1 else "")

    def _objects(self, forger: str) -> list[str]:
        """What custom resources and Leases say that is not so."""
        raise NotImplementedError

    def turn(self) -> Turn | None:
        """Who forges, by which token; None: nobody can say."""
        forging = self.pods.forgers()
        if len(forging) != 1:
            return None
        token = (forging[0].status().get(self.shared) or {}).get("token")
        return Turn(forging[0].name, token) if isinstance(token, int) else None

    # --- what there is to know ---

    def transitions(self) -> int:
        """How often the lease (in a fleet: the pool-wide lock) has changed hands; -1: nobody can be asked."""
        raise NotImplementedError

    # --- keys ---

    def rotate(self) -> None:
        """Another KES key with the next certificate in every pod."""
        self.counter += 1
        self.hand_out(self.pods.pods)

    def hand_out(self, pods: Sequence[Pod]) -> None:
        """The newest keys into these pods' secrets, one file after another."""
        made = keys.generate(
            self.root / f"set-{self.counter}",
            kes_period=keys.current_kes_period("mainnet"),
            counter=self.counter,
            seed=self.seed,
            kes_seed=self.counter.to_bytes(32, "big"),
        )
        for pod in pods:
            for path in (made.kes, made.vrf, made.cert):
                put(pod.secrets / path.name, path.read_bytes())
        shutil.rmtree(made.folder)

    def close(self) -> None:
        self.pods.close()
        for api in self.apis.values():
            api.stop_sync()


class ClusterArena(Arena):
    """Three pods of one cluster around one API server."""

    name, shared, one_lease = "cluster", "leader", True
    seed = b"of the campaign's pool".ljust(32)

    def __init__(self) -> None:
        super().__init__()
        self.apis = {"only": new_api()}
        with closing_on_error(self.apis):
            self.apis["only"].start_sync()
            self.cluster = Cluster(self.apis["only"], namespace=NAMESPACES[0], environment={"LOG_FORMAT": "json"})
        self.pods, self.root = self.cluster, self.cluster.root
        self.cluster.admin.timeout_s = PATIENCE_S

    def prepare(self) -> None:
        """Keys that can be rotated, in all pods."""
        self.rotate()

    def leases(self) -> list[list[str]]:
        """Names of the pods that a Lease elects, for each."""
        return [[pod.name for pod in self.cluster.pods]]

    def region_of(self, pod: Pod) -> str:
        """There is but one."""
        return ""

    def together_with(self, pod: Pod) -> list[Pod]:
        """The pods of its StatefulSet, itself among them."""
        return list(self.cluster.pods)

    def _objects(self, forger: str) -> list[str]:
        path = f"/apis/cardano.io/v1/namespaces/{self.cluster.namespace}/cardanoleaders/cardano-leader"
        try:
            holder = str(lease(self.cluster, "GET")["spec"].get("holderIdentity"))
            answer = self.cluster.admin.request("GET", path)
        except REFUSALS as error:
            return [f"the API server does not answer: {error}"]
        status = answer.body.get("status", {}) if answer.code == 200 else {}
        found = [] if holder.startswith(f"{forger}_") else [f"the Lease names {holder}"]
        if (status.get("leaderPod"), status.get("forgingEnabled")) != (forger, True):
            found.append(f"CardanoLeader says {status}")
        return found

    def transitions(self) -> int:
        try:
            return int(lease(self.cluster, "GET")["spec"].get("leaseTransitions", -1))
        except (*REFUSALS, ValueError):
            return -1


class FleetArena(Arena):
    """Three regions with pods and an API server each; these coordinate."""

    name, shared, one_lease = "fleet", "pool", False
    seed = b"of the campaign's other pool".ljust(32)

    def __init__(self, pods_each: int = 2) -> None:
        super().__init__()
        self.apis = new_apis()
        self.endpoints = Endpoints()
        self._home, self._settled_at, self._alike_at = True, 0.0, 0.0
        with closing_on_error(self.apis):
            for api in self.apis.values():
                api.start_sync()
            environment = {"LOG_FORMAT": "json", "HEALTH_CHECK_ENDPOINT": self.endpoints.url("any")}
            self.fleet = Fleet(
                self.apis,
                pods_each=pods_each,
                namespace=FLEET_NAMESPACE,
                environment=environment,
                hold_down_s=HOLD_DOWN_S,
                seed=self.seed,
            )
        self.pods, self.root = self.fleet, self.fleet.root
        for admin in self.fleet.admins.values():
            admin.timeout_s = PATIENCE_S

    def prepare(self) -> None:
        """Keys that can be rotated, and health checks in every region, once its object is there."""
        self.rotate()

        def there() -> bool:
            with contextlib.suppress(*REFUSALS):  # a server that has just started may take its time
                return all(self.fleet.cluster(region) for region in self.apis)
            return False

        self.fleet.wait_for(there, 60, "the objects are there")
        self.insist(lambda: watch_health(self.fleet, self.endpoints))

    def leases(self) -> list[list[str]]:
        """None of which one API server alone decides: a leader may go on without its own."""
        return []

    @property
    def regions(self) -> list[str]:
        return list(self.apis)

    def region_of(self, pod: Pod) -> str:
        return next(region for region, pods in self.fleet.regions.items() if pod in pods)

    def together_with(self, pod: Pod) -> list[Pod]:
        """The pods of its StatefulSet, itself among them."""
        return list(self.fleet.regions[self.region_of(pod)])

    def forging_region(self, dice: random.Random) -> str:
        """Any one, if none or two forge."""
        return self.fleet.forging_region() or dice.choice(self.regions)

    def say(self, region: str, spec: dict[str, Any], dice: random.Random) -> None:
        """An operator's edit, on any of the servers that takes it."""
        for on in dice.sample(self.regions, len(self.regions)):
            with contextlib.suppress(*REFUSALS):
                return self.fleet.patch(region, {"spec": spec}, on=on)
        raise OSError("no API server took the edit")

    def heal(self) -> list[str]:
        self.endpoints.bad.clear()
        return super().heal()

    def unrest(self) -> list[str]:
        """The same; and no edit is under way, and who forges is who should, or that will take long."""
        found = super().unrest()
        if not found:
            with contextlib.suppress(AssertionError):  # the forger changed between two looks
                found = self._unsteady() or self._edits()
                if not found:
                    return self._not_home()
        self._settled_at = 0.0
        return found or ["the forger changes"]

    def _unsteady(self) -> list[str]:
        now = time.monotonic_ns()
        if now - self.fleet.leader().intervals(now)[-1].begin < STEADY_S * NS:
            return ["the forger is new"]
        return [] if whole(self.fleet) else ["not every member has the lock in the forger's name"]

    def _edits(self) -> list[str]:
        """Copies that differ, and what was not undone: an edit upon an older copy is set aside."""
        try:
            specs = {
                region: [self.fleet.cluster(region, on=on).get("spec", {}) for on in self.apis] for region in self.apis
            }
        except REFUSALS as error:
            return [f"an API server does not answer: {error}"]
        unlike = [region for region, copies in specs.items() if any(copy != copies[0] for copy in copies)]
        if unlike:
            self._alike_at = 0.0
            return [f"the copies of {region}'s object differ: {specs[region]}" for region in unlike]
        wanted = {region: self.resting_spec(region) for region in self.apis}
        undone = [region for region, copies in specs.items() if not says(copies[0], wanted[region])]
        if not undone:
            self._alike_at = 0.0
        elif self._owed_for(SAID_AGAIN_S):
            self.told += [f"{region} was still {specs[region][0]}: said again" for region in undone]
            for region in undone:
                self.insist(lambda region=region: self.fleet.patch(region, {"spec": wanted[region]}))  # type: ignore[misc]
        return [f"{region} is not as it was before the edits: {specs[region][0]}" for region in undone]

    def _owed_for(self, seconds: float) -> bool:
        """Whether the copies have been alike and not as they should be for so long."""
        now = time.monotonic()
        self._alike_at = self._alike_at or now
        if now - self._alike_at < seconds:
            return False
        self._alike_at = 0.0
        return True

    def priority(self, region: str) -> int:
        """When nothing is wrong."""
        return self.regions.index(region) + 1

    def resting_spec(self, region: str) -> dict[str, Any]:
        """What an operator would have each region say when nothing is wrong."""
        return {
            "forgeState": "Priority-based",
            "priority": self.priority(region),
            "override": {"enabled": False, "forceState": None},
            "healthCheck": health_check(self.endpoints, region),
        }

    def _not_home(self) -> list[str]:
        """Whether another region should forge, and soon will."""
        now = time.monotonic()
        self._settled_at = self._settled_at or now
        pool = self.fleet.leader().status().get("pool") or {}
        clusters = pool.get("clusters", ())
        away = [each["region"] for each in clusters if not each["eligible"]]
        # With checks that failed last a region has another priority, and comes home when they succeed again.
        unwell = [each["region"] for each in clusters if each["priority"] != self.priority(each["region"])]
        self._home = bool(pool) and pool.get("wanted") == pool.get("cluster") and not away and not unwell
        if self._home or now - self._settled_at >= HOME_S:
            return []
        return [f"{pool.get('wanted')} should forge: {pool.get('why')}; {away} could not, {unwell} are not well"]

    def disturbed(self) -> None:
        self._settled_at = self._alike_at = 0.0

    @property
    def home(self) -> bool:
        return self._home

    def _objects(self, forger: str) -> list[str]:
        found = []
        for region, pods in self.fleet.regions.items():
            forges = any(pod.name == forger for pod in pods)
            for on in self.apis:
                try:
                    status = self.fleet.cluster(region, on=on).get("status", {})
                except REFUSALS as error:
                    found.append(f"the API server of {on} does not answer: {error}")
                    continue
                if status.get("forgingEnabled") is not forges or (forges and status.get("activeLeader") != forger):
                    found.append(f"{region}'s object on {on} says {status}")
        return found

    @property
    def lock_path(self) -> str:
        """Of the pool's lock, on each member."""
        return self._lease_path("cardano-pool")

    @property
    def lease_path(self) -> str:
        """Of a region's own Lease, on its server."""
        return self._lease_path("cardano-leader")

    def _lease_path(self, what: str) -> str:
        name = f"{what}-{self.fleet.network}-{self.fleet.pool_id[:10]}"
        return f"/apis/coordination.k8s.io/v1/namespaces/{FLEET_NAMESPACE}/leases/{name}"

    def transitions(self) -> int:
        found = []
        for admin in self.fleet.admins.values():
            with contextlib.suppress(*REFUSALS, ValueError):
                answer = admin.request("GET", self.lock_path)
                if answer.code == 200:
                    found.append(int(answer.body["spec"].get("leaseTransitions", -1)))
        return max(found, default=-1)

    def close(self) -> None:
        super().close()
        self.endpoints.close()


@contextlib.contextmanager
def closing_on_error(apis: dict[str, SyncApiServer]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for api in apis.values():
            api.stop_sync()
        raise


def says(spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a spec has what a merge patch would set; what the patch removes may not be there."""
    for key, value in wanted.items():
        found = spec.get(key)
        if isinstance(value, Mapping):
            off = value.get("enabled") is False and not (found or {}).get("enabled")
            if not off and not says(found or {}, value):
                return False
        elif found != value:
            return False
    return True


def empty(folder: Path) -> None:
    """As an emptyDir of a new pod is."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
