"""Who is measured in one run: this product and its peers, behind one interface.

A contender is some instances that elect one leader.  Of the product an instance is a pod, and what counts is what its
node wrote down of its own forging; of a peer it is a process, and what counts is what it believed (`bench.peers`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from bench.cost import cpu_s, pss_kib
from bench.peers.group import Group, Instance
from bench.peers.kinds import Kind
from bench.tail import Tail
from devkit import record
from devkit.api.server_protocol import SyncApiServer
from devkit.pod import Pod
from devkit.pods import Cluster


class Fault(StrEnum):
    """What happens to the leader, or to the API server."""

    TERMINATED = "SIGTERM"
    KILLED = "SIGKILL"
    FROZEN = "frozen"
    CUT_OFF = "cut off"
    RESTART = "API restart"
    NODE_KILLED = "node killed"


LASTS_S: Final = {Fault.FROZEN: 25.0, Fault.CUT_OFF: 25.0}
"""How long these are held; after the others the leader is away until another one leads."""


@dataclass(frozen=True, slots=True)
class Look:
    """What an instance cost so far, and its memory now."""

    leads: bool
    requests: int
    """Sent to the API server; a watch counts when it is opened."""
    cpu_s: float
    """Of its running processes."""
    pss_kib: int


class Contender(Protocol):
    """Times are CLOCK_MONOTONIC, ns."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def settings(self) -> str:
        """How they differ from 15 s, 10 s, 2 s."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those that it can meet."""

    def add(self) -> None:
        """Starts an instance."""

    def complete(self) -> bool:
        """All instances are up: they lead or stand by."""

    def intervals(self, now: int) -> dict[str, list[record.Interval]]:
        """Instance -> when it led."""

    def leader(self) -> str:
        """The instance that leads; empty: none does, or more than one."""

    def settled(self) -> bool:
        """One leads, and all others stand by."""

    def make(self, fault: Fault) -> None:
        """To the leader; the restart of the API server is its own business."""

    def mend(self) -> None:
        """What `make` broke."""

    def looks(self) -> dict[str, Look]:
        """Instance -> what it costs."""

    def describe(self) -> str:
        """For whoever has to find out why it does not settle."""

    def close(self) -> None: ...


def _leader(intervals: dict[str, list[record.Interval]], now: int) -> str:
    found = record.forgers_at(intervals, now - 1)
    return found[0] if len(found) == 1 else ""


class Product:
    """Pods of this product with simulated nodes."""

    name = "this product"
    settings = ""
    faults = tuple(Fault)

    def __init__(self, api: SyncApiServer, version: str, number: int = 0) -> None:
        """`number`: of one of several on the same server."""
        self.version = version
        self._cluster = Cluster(api, 0, namespace=f"product-{number}")
        self._tails: dict[str, Tail] = {}
        self._mend: Callable[[], None] | None = None

    def add(self) -> None:
        pod = self._cluster.add()
        self._tails[pod.name] = Tail(pod.record_file)

    def complete(self) -> bool:
        return all(pod.healthy() for pod in self._cluster.pods)

    def intervals(self, now: int) -> dict[str, list[record.Interval]]:
        return {name: record.intervals(tail.events(), now) for name, tail in self._tails.items()}

    def leader(self) -> str:
        now = time.monotonic_ns()
        return _leader(self.intervals(now), now)

    def settled(self) -> bool:
        return self.leader() != "" and self.complete()

    def _leading(self) -> Pod:
        name = self.leader()
        return next(pod for pod in self._cluster.pods if pod.name == name)

    def make(self, fault: Fault) -> None:
        pod = self._leading()
        if fault is Fault.TERMINATED:
            self._mend = pod.revive
            pod.terminate()
        elif fault is Fault.KILLED:
            self._mend = pod.revive
            pod.kill_sidecar()
        elif fault is Fault.FROZEN:
            frozen = pod.freeze_sidecar()
            self._mend = lambda: pod.thaw(frozen)
        elif fault is Fault.CUT_OFF:
            self._mend = pod.proxy.let_pass
            pod.proxy.hang()
        elif fault is Fault.NODE_KILLED:
            pod.kill_node()

    def mend(self) -> None:
        mend, self._mend = self._mend, None
        if mend is not None:
            mend()

    def looks(self) -> dict[str, Look]:
        leader = self.leader()
        found = {}
        for pod in self._cluster.pods:
            pids = pod.sidecar_pids()
            requests = sum(pod.proxy.counts.values())
            cpu, pss = sum(map(cpu_s, pids)), sum(map(pss_kib, pids))
            found[pod.name] = Look(pod.name == leader, requests, cpu, pss)
        return found

    def describe(self) -> str:
        return self._cluster.describe()

    def close(self) -> None:
        self._cluster.close()


class PeerContender:
    """Processes of one peer."""

    faults = tuple(fault for fault in Fault if fault is not Fault.NODE_KILLED)

    def __init__(self, api: SyncApiServer, kind: Kind, number: int = 0) -> None:
        """Builds it if need be.  `number`: of one of several on the same server.  BuildError, SetupError."""
        self.name, self.version, self.settings = kind.name, kind.version, kind.settings
        self._group = Group(kind, api, number)
        self._mend: Callable[[], None] | None = None

    def add(self) -> None:
        self._group.add()

    def complete(self) -> bool:
        return all(each.up() for each in self._group.instances)

    def intervals(self, now: int) -> dict[str, list[record.Interval]]:
        return {each.name: each.intervals(now) for each in self._group.instances}

    def leader(self) -> str:
        now = time.monotonic_ns()
        return _leader(self.intervals(now), now)

    def settled(self) -> bool:
        return self.leader() != "" and self.complete()

    def _leading(self) -> Instance:
        name = self.leader()
        return next(each for each in self._group.instances if each.name == name)

    def make(self, fault: Fault) -> None:
        instance = self._leading()
        if fault in (Fault.TERMINATED, Fault.KILLED):
            self._mend = instance.revive
            instance.end(signal.SIGTERM if fault is Fault.TERMINATED else signal.SIGKILL)
        elif fault is Fault.FROZEN:
            self._mend = lambda: instance.signal(signal.SIGCONT)
            instance.signal(signal.SIGSTOP)
        elif fault is Fault.CUT_OFF:
            self._mend = instance.proxy.let_pass
            instance.proxy.hang()

    def mend(self) -> None:
        mend, self._mend = self._mend, None
        if mend is not None:
            mend()

    def looks(self) -> dict[str, Look]:
        leader = self.leader()
        found = {}
        for each in self._group.instances:
            cpu, pss = sum(map(cpu_s, each.pids)), sum(map(pss_kib, each.pids))
            found[each.name] = Look(each.name == leader, sum(each.proxy.counts.values()), cpu, pss)
        return found

    def describe(self) -> str:
        return self._group.describe()

    def close(self) -> None:
        self._group.close()
