"""The pools upon which a campaign is played: one cluster with three pods, and a fleet of three regions.

Real sidecars and simulated nodes, each pool around API servers of its own.  An arena knows who may be struck, how
everything is mended, and when its pool is at rest.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from devkit import keys
from devkit.api.server_protocol import SyncApiServer
from devkit.fleet import Fleet
from devkit.pods import Cluster, Pod, PodSet
from devkit.realapi.client import SetupError
from devkit.record import NS

from fleets import Endpoints, new_apis, watch_health, whole
from hands import lease, put
from lanes import NAMESPACES, new_api

REFUSALS: Final = (OSError, http.client.HTTPException, SetupError, AssertionError, TimeoutError)
"""What a request to an API server that another fault has struck may end with."""
PATIENCE_S: Final = 3.0
"""With an API server that may stand still while an operator wants something of it."""
STEADY_S: Final = 3.5
"""A fleet whose forger is as new as that may be about to hand over once more: its hold-down is 2 s."""
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
    pods: PodSet
    root: Path
    """Everything of the pods lies in it."""
    apis: dict[str, SyncApiServer]

    def __init__(self) -> None:
        self._owed: list[Callable[[], object]] = []
        self.frozen: set[int] = set()
        """Processes of API servers that stand still by our hand."""

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
        return len(self.pods.forgers()) == 1 and all(pod.healthy() for pod in self.pods.pods)

    # --- what there is to know ---

    def transitions(self) -> int:
        """How often the lease (in a fleet: the pool-wide lock) has changed hands; -1: nobody can be asked."""
        raise NotImplementedError

    def close(self) -> None:
        self.pods.close()
        for api in self.apis.values():
            api.stop_sync()


class ClusterArena(Arena):
    """Three pods of one cluster around one API server."""

    name = "cluster"
    SEED: Final = b"of the campaign's pool".ljust(32)

    def __init__(self) -> None:
        super().__init__()
        self.apis = {"only": new_api()}
        with closing_on_error(self.apis):
            self.apis["only"].start_sync()
            self.cluster = Cluster(self.apis["only"], namespace=NAMESPACES[0], environment={"LOG_FORMAT": "json"})
        self.pods, self.root = self.cluster, self.cluster.root
        self.cluster.admin.timeout_s = PATIENCE_S
        self.counter = 0
        """Of the pool's certificate."""

    def prepare(self) -> None:
        """Keys that can be rotated, in all pods."""
        self.rotate()

    def rotate(self) -> None:
        """Another KES key with the next certificate in every pod, one file after another."""
        self.counter += 1
        made = keys.generate(
            self.cluster.root / f"set-{self.counter}",
            kes_period=keys.current_kes_period("mainnet"),
            counter=self.counter,
            seed=self.SEED,
            kes_seed=self.counter.to_bytes(32, "big"),
        )
        for pod in self.cluster.pods:
            for path in (made.kes, made.vrf, made.cert):
                put(pod.secrets / path.name, path.read_bytes())
        shutil.rmtree(made.folder)

    def transitions(self) -> int:
        try:
            return int(lease(self.cluster, "GET")["spec"].get("leaseTransitions", -1))
        except REFUSALS:
            return -1


class FleetArena(Arena):
    """Three regions with pods and an API server each; these coordinate."""

    name = "fleet"

    def __init__(self, pods_each: int = 2) -> None:
        super().__init__()
        self.apis = new_apis()
        self.endpoints = Endpoints()
        with closing_on_error(self.apis):
            for api in self.apis.values():
                api.start_sync()
            environment = {"LOG_FORMAT": "json", "HEALTH_CHECK_ENDPOINT": self.endpoints.url("any")}
            self.fleet = Fleet(self.apis, pods_each=pods_each, namespace=FLEET_NAMESPACE, environment=environment)
        self.pods, self.root = self.fleet, self.fleet.root
        for admin in self.fleet.admins.values():
            admin.timeout_s = PATIENCE_S

    def prepare(self) -> None:
        """Health checks in every region, once its object is there."""
        self.fleet.wait_for(
            lambda: all(self.fleet.cluster(region) for region in self.apis), 60, "the objects are there"
        )
        self.insist(lambda: watch_health(self.fleet, self.endpoints))

    @property
    def regions(self) -> list[str]:
        return list(self.apis)

    def region_of(self, pod: Pod) -> str:
        return next(region for region, pods in self.fleet.regions.items() if pod in pods)

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

    def at_rest(self) -> bool:
        with contextlib.suppress(AssertionError):  # the forger changed between two looks
            return super().at_rest() and self._steady() and whole(self.fleet)
        return False

    def _steady(self) -> bool:
        now = time.monotonic_ns()
        return now - self.fleet.leader().intervals(now)[-1].begin >= STEADY_S * NS

    @property
    def lock_path(self) -> str:
        name = f"cardano-pool-{self.fleet.network}-{self.fleet.pool_id[:10]}"
        return f"/apis/coordination.k8s.io/v1/namespaces/{FLEET_NAMESPACE}/leases/{name}"

    def transitions(self) -> int:
        found = []
        for admin in self.fleet.admins.values():
            with contextlib.suppress(*REFUSALS):
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


def empty(folder: Path) -> None:
    """As an emptyDir of a new pod is."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
