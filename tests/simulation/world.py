"""A pool of whole pods, and what must hold of it at every step.

Checked whenever a node begins or ends to forge, a worker says something, or a Lease is written:

- one forger at most, over all pods;
- a node is off before anybody else could take what its pod renewed last (a lease duration of the fastest clock);
- the Lease is released only when the pod's node does not forge;
- keys are shown to a node that may forge with them only under an unexpired grant of the elector and one of the arbiter;
- a grant never lasts longer than a lease duration, less the margin, from the last write that a server took;
- no node is armed under grants that were renewed before a jump of the wall clock that its pod has noticed, and has had
  room on its disk to write down;
- no SIGHUP reaches a node that has no handler for it;
- nobody writes over a holder who renewed less than a lease duration ago, but that holder;
- who forges has a higher token than whoever forged before;
- an actuator does not say "fenced" of a node that forges, and no two say "armed".

In the end of each schedule, too: what is said of a node and what it does agree, and nobody asked without a pause.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from pathlib import Path
from typing import Any, Final

from ipc.messages import ActuatorState, ArbiterState, Body, ElectorState, Fence, Worker
from policy.lease import LeaseRecord

from simulated_fleet import Fleet, Server
from simulated_time import Clock
from whole_pod import WholePod

LEASE_S: Final = 15.0
FASTEST_S: Final = LEASE_S / 1.01
"""A lease duration of a clock that is 1 % faster than ours (A2)."""
GRANT_S: Final = LEASE_S - 2.0 - LEASE_S / 100
"""What a renewal gives at most, counted from before it was sent: less two seconds' margin and 1 %."""
PHASES: Final = (
    "nobody leads",
    "leading, off",
    "arming",
    "forging",
    "handing over",
    "fencing",
    "acquiring",
    "draining",
)
HOUR_S: Final = 3600.0
ASKED_AT_ONCE: Final = 100
ASKED_PER_S: Final = 20.0
"""Requests of one pod to one server, whatever goes wrong: five followers try again twice a second, some times each."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What pool it is."""

    name: str
    regions: tuple[str, ...] = ("a-east",)
    pods_each: int = 2
    members: int = 0
    """How many of the regions' servers hold the pool-wide lock; 0: there is no cluster management."""


KINDS: Final = (
    Kind("one cluster", pods_each=2),
    Kind("one cluster of three", pods_each=3),
    Kind("two regions, one lock", ("a-east", "b-west"), 1, 1),
    Kind("two regions, three locks", ("a-east", "b-west", "c-north"), 1, 3),
    Kind("two regions of two, one lock", ("a-east", "b-west"), 2, 1),
)


class World(Fleet):
    """See above."""

    def __init__(self, kind: Kind, folder: Path, *, drift: float = 0.004) -> None:
        """`drift`: by which share the rates of the pods' clocks are off, each way; A2 allows 0.005."""
        self.kind, self.drift = kind, drift
        self.waiting: dict[str, asyncio.Event] = {}
        self._environments: dict[str, dict[str, str]] = {}
        self._renewed: dict[tuple[str, str], tuple[float, int]] = {}
        """(pod, Lease) -> when a server took its last write that says it holds it (s, true time), and in which term."""
        self._granted: dict[tuple[str, Worker], int] = {}
        self._held: dict[str, tuple[str, float]] = {}
        """Of a Lease: the last holder that was written there, and when (s, true time); not since it was released."""
        self._tokens: dict[str, int] = {}
        """Of the last grant that is exclusive, by pod."""
        self._written_in: dict[str, str] = {}
        """Which life of its cluster's Lease each pod wrote in last: deleted and made anew it is another."""
        self._forged_by: dict[str, tuple[int, str]] = {}
        """By life of the Lease, or for the lock: the token that somebody forged with last, and who."""
        self.begun = self.lasting = 0
        """How many faults began, and how many last."""
        self.calm_s = 0.0
        """From when on nothing is left of those that ended."""
        self._granted_from: dict[tuple[str, Worker], int] = {}
        """The renewal by which each gave its last grant (ns of the pod)."""
        self._jumped: dict[str, int] = {}
        """The last jump of the wall clock of which a pod said that it knows."""
        self._jump_noted: dict[str, int] = {}
        """The last one that it could write down: its next actuator knows of it, too."""
        super().__init__(seed=0, folder=folder, regions=kind.regions, pods_each=kind.pods_each, members=kind.members)

    def __post_init__(self) -> None:
        kind = self.kind
        self.rng = random.Random(kind.name)
        self.servers = {name: Server(name, self.rng, self._written) for name in self.regions}
        self.coordinators = list(self.servers.values())[: kind.members]
        self.clusters = {region: self._pods_of(index, region) for index, region in enumerate(kind.regions)}
        self.pods = [pod for pods in self.clusters.values() for pod in pods]
        self._made = kind.pods_each
        for pod, way in zip(self.pods, itertools.cycle((-1, 1, 0.5))):  # the slowest often forges first
            pod.machine.clock = Clock(1 + self.drift * way, HOUR_S * self.rng.uniform(-1, 1))

    def _pods_of(self, index: int, region: str) -> list[Any]:
        environment: dict[str, str] = {}
        if self.kind.members:
            environment = {
                "ENABLE_CLUSTER_MANAGEMENT": "true",
                "POOL_ID": "pool1simulatedpool",
                "CLUSTER_REGION": region,
                "CLUSTER_PRIORITY": str(index + 1),
                "PREEMPTION_DELAY": "5",
                "COORDINATION_KUBECONFIGS": ",".join(f"/k/{server.name}" for server in self.coordinators),
            }
        self._environments[region] = environment
        return [self._pod(number, region) for number in range(self.kind.pods_each)]

    def _pod(self, number: int, region: str, called: str = "") -> WholePod:
        pod = WholePod(
            number,
            self.folder / region / str(number),
            self.servers[region],
            self.changed,
            name=f"{region}-{number}",
            environment=self._environments[region],
            coordinators=self.coordinators,
            called=called,
        )
        pod.node.broken = lambda what: self.violate(f"{pod.name}: {what}")
        pod.on_publish = lambda worker, body: self._said(pod, worker, body)
        pod.machine.on_expose = lambda: self._exposed(pod)
        return pod

    def start(self) -> None:
        """All pods, and their nodes."""
        for pod in self.pods:
            pod.start_all()
            pod.node.start()

    def add_another(self, pod: Any) -> None:
        """Of the same name, on a machine of its own; it starts at once."""
        region = next(name for name, pods in self.clusters.items() if pod in pods)
        other = self._pod(self._made, region, called=pod.config.pod_name)
        self._made += 1
        other.machine.clock = Clock(1 + self.drift * self.rng.uniform(-1, 1), HOUR_S * self.rng.uniform(-1, 1))
        other.forget()
        self.pods.append(other)
        self.clusters[region].append(other)
        other.start_all()
        other.node.start()

    def remove(self, pod: Any) -> None:
        """It ends, for ever."""
        pod.vanish()
        self.pods.remove(pod)
        for pods in self.clusters.values():
            if pod in pods:
                pods.remove(pod)

    @property
    def managed(self) -> bool:
        return bool(self.kind.members)

    def violate(self, what: str) -> None:
        what = f"{asyncio.get_running_loop().time():.4f}: {what}"
        self.violations.append(what)
        self.story.append(f"!!! {what}")

    # --- what is checked ---

    def changed(self) -> None:
        """A node began or ended to forge."""
        now_s = asyncio.get_running_loop().time()
        forgers = self.forgers()
        names = {pod.name for pod in forgers}
        if names == self._forged:
            return
        self.tell("forging: " + (", ".join(sorted(names)) or "nobody"))
        if len(names) > 1:
            self.violate(f"two forge: {sorted(names)}")
        for pod in self.pods:
            if pod.name in self._forged and pod.name not in names and now_s > self.right_until_s(pod):
                self.violate(f"{pod.name} forged for {now_s - self.right_until_s(pod):.3f} s beyond its lease")
            if pod.name in names and pod.name not in self._forged:
                self._begins(pod)
        self._forged = names
        if not forgers:
            self._none_since = now_s
        elif self._none_since is not None:
            self.gaps.append(now_s - self._none_since)
            self._none_since = None
        self._phase_changed()

    def _begins(self, pod: Any) -> None:
        token, life = self._tokens.get(pod.name, 0), "" if self.managed else self._written_in.get(pod.name, "")
        highest, last = self._forged_by.get(life, (0, pod.name))
        if token < highest or (token == highest and pod.name != last):
            self.violate(f"{pod.name} forges with the token {token}, {last} did with {highest}")
        self._forged_by[life] = token, pod.name

    def forget_tokens(self) -> None:
        """A Lease is older than it was.  How far the lock's terms were counted is known elsewhere, too."""
        if not self.managed:
            self._forged_by.clear()

    def right_until_s(self, pod: Any) -> float:
        """Nobody else can hold what this pod renewed before this instant (s, true time)."""
        if not self.managed:
            at, _ = self._renewed.get((pod.name, pod.api.name), (0.0, 0))
            return at + FASTEST_S
        times = [self._renewed.get((pod.name, _lock_on(server.name)), (0.0, 0))[0] for server in self.coordinators]
        return sorted(times, reverse=True)[len(times) // 2] + FASTEST_S

    def _written(self, where: str, by: str, record: LeaseRecord | None) -> None:
        super()._written(where, by, record)
        now_s = asyncio.get_running_loop().time()
        pod = next((each for each in self.pods if each.name == by), None)
        if record is not None:
            self._note_holder(where, by, record.holder, now_s)
        if pod is None or record is None:
            return
        key = (by, where)
        if where == pod.api.name:
            self._written_in[by] = record.uid
        if record.holder:
            self._renewed[key] = now_s, record.transitions
        elif pod.node.forging and record.transitions >= self._term(pod, where):
            self.violate(f"{by} released {where} under its forging node")

    def _note_holder(self, where: str, by: str, holder: str, now_s: float) -> None:
        """What a holder leaves is free; whom a hand erases, or writes over, may forge, and whom it names does not."""
        if not by:
            return
        last, at_s = self._held.get(where, ("", 0.0))
        if holder and last not in ("", holder) and now_s < at_s + FASTEST_S:
            self.violate(f"{by} wrote over {last} on {where}, who renewed {now_s - at_s:.3f} s before")
        if holder:
            self._held[where] = holder, now_s
        else:
            self._held.pop(where, None)

    def _term(self, pod: Any, where: str) -> int:
        """The last one that this pod began, there or (of the lock) on any member: what is left of others is nothing."""
        of_lock = where.startswith(_lock_on(""))
        told = [
            (at.startswith(_lock_on("")), term) for (name, at), (_, term) in self._renewed.items() if name == pod.name
        ]
        return max((term for lock, term in told if lock is of_lock), default=0)

    def _said(self, pod: Any, worker: Worker, body: Body) -> None:
        if isinstance(body, ElectorState | ArbiterState) and body.grant is not None:
            key, grant = (pod.name, worker), body.grant
            self._granted[key] = max(self._granted.get(key, 0), grant.deadline)
            self._granted_from[key] = max(self._granted_from.get(key, 0), grant.renewed_at)
            if worker is (Worker.ARBITER if self.managed else Worker.ELECTOR):
                self._tokens[pod.name] = grant.fencing_token
            self._measure(pod, worker, body)
        elif isinstance(body, ActuatorState):
            self._judge(pod, body)
            self._look_for_void_grants(pod, body)
        self._phase_changed()

    def _judge(self, pod: Any, body: ActuatorState) -> None:
        """What an actuator says, against its node and the others'."""
        if body.fence is Fence.FENCED and pod.node.forging:
            self.violate(f"{pod.name}: the actuator says fenced ({body.proof}), and its node forges")
        if body.fence is Fence.ARMED and (
            also := [each.name for each in self.pods if each is not pod and _armed(each)]
        ):
            self.violate(f"{pod.name}: the actuator says armed, as {also} do")

    def said_falsely(self) -> set[tuple[str, str, bool]]:
        """Of whom his actuator says now what his node does not do: (pod, what is said, whether the node forges)."""
        said = [(pod.name, pod.fence(), pod.node.forging) for pod in self.pods]
        return {each for each in said if each[1:] in (("armed", False), ("fenced", True))}

    def must_not_last(self, false: set[tuple[str, str, bool]]) -> None:
        for name, fence, forging in sorted(false & self.said_falsely()):
            self.violate(f"{name}: for a second its actuator says {fence}, and its node forges: {forging}")

    def asked(self) -> dict[tuple[str, str], int]:
        """Requests so far, by server and pod."""
        return {(server.name, pod): count for server in self.servers.values() for pod, count in server.asked.items()}

    def must_not_turn_in_a_circle(self, before: dict[tuple[str, str], int], lasted_s: float) -> None:
        for key, count in self.asked().items():
            if (asked := count - before.get(key, 0)) > ASKED_AT_ONCE + ASKED_PER_S * lasted_s:
                self.violate(f"{key[1]} asked {key[0]} {asked} times in {lasted_s:.3f} s")

    def can_hand_over(self, pod: Any) -> bool:
        """Whether it forges, and another of its cluster says that it is ready."""
        forges = not self.managed and pod.node.forging
        return forges and any(each.ready() for each in self.pods if each is not pod)

    def _measure(self, pod: Any, worker: Worker, body: ElectorState | ArbiterState) -> None:
        """The grant against the last write that a server took from this pod."""
        assert body.grant is not None
        if self.managed and (worker is Worker.ARBITER or not body.grant.exclusive):
            until_s = self.right_until_s(pod) - FASTEST_S
        else:
            until_s = self._renewed.get((pod.name, pod.api.name), (0.0, 0))[0]
        most = int((until_s * pod.machine.clock.rate + GRANT_S) * 1e9) + 1000
        if body.grant.deadline > most:
            beyond = (body.grant.deadline - most) / 1e9
            self.violate(f"{pod.name}: the {worker} grants {beyond:.3f} s more than its last renewal gives")

    def _look_for_void_grants(self, pod: Any, body: ActuatorState) -> None:
        """What was granted before a jump arms nobody, though who granted it says so still."""
        if body.void_before > self._jumped.get(pod.name, 0):
            self._jumped[pod.name] = body.void_before
            if not pod.machine.disk_full:
                self._jump_noted[pod.name] = body.void_before
        void = max(body.void_before, self._jump_noted.get(pod.name, 0))
        for worker in (Worker.ELECTOR, Worker.ARBITER):
            if body.fence in (Fence.ARMING, Fence.ARMED) and self._granted_from.get((pod.name, worker), 0) <= void:
                self.violate(f"{pod.name}: armed by what the {worker} granted before a jump of the wall clock")

    def _exposed(self, pod: Any) -> None:
        now = pod.machine.now()
        for worker in (Worker.ELECTOR, Worker.ARBITER):
            if self._granted.get((pod.name, worker), 0) <= now:
                self.violate(f"{pod.name}: keys are shown without a grant of the {worker}")

    # --- phases ---

    def phase(self) -> str:
        """The pool's, for a person: of whichever pod is farthest."""
        fences = {pod.fence() for pod in self.pods}
        if "arming" in fences:
            return "arming"
        if any(pod.role() == "handover" for pod in self.pods):
            return "handing over"
        if "fencing" in fences:
            return "fencing"
        locks = {pod.lock_phase() for pod in self.pods} if self.managed else set()
        for phase in ("draining", "acquiring"):
            if phase in locks:
                return phase
        if self.forgers():
            return "forging"
        return "leading, off" if any(pod.leads() for pod in self.pods) else "nobody leads"

    def _phase_changed(self) -> None:
        if self.waiting and (event := self.waiting.get(self.phase())) is not None:
            event.set()

    async def until_phase(self, wanted: str, most_s: float) -> None:
        """Until the pool is in this phase, or for so long."""
        event = self.waiting.setdefault(wanted, asyncio.Event())
        event.clear()
        if self.phase() == wanted:
            return
        try:
            async with asyncio.timeout(most_s):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self.waiting.pop(wanted, None)


def _armed(pod: Any) -> bool:
    """As whoever asks its sockets would hear."""
    state = pod.sockets.latest.get(Worker.ACTUATOR)
    said = state is not None and state.body.fence is Fence.ARMED and pod.machine.now() < state.valid_until
    return said and not pod.machine.paused


def _lock_on(server: str) -> str:
    return f"the pool's lock on {server}"


async def warmed(world: World) -> None:
    """All pods are started; somebody forges; a little later."""
    world.start()
    await world.until_somebody_forges(60)
    await asyncio.sleep(3)
