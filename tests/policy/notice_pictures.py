"""What the prober knows of a pod, as tests of notices give it, one picture after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

from devkit import states
from ipc.messages import (
    ArbiterState,
    Body,
    Fence,
    Grant,
    HealthReport,
    LockPhase,
    PoolState,
    Role,
    Sandbox,
    State,
    Worker,
)
from policy import timing
from policy.notices import Notice, Seen, Teller

S = timing.SECOND
FOLLOWED = (Worker.ACTUATOR, Worker.ARBITER, Worker.ELECTOR)
WALL = 1_800_000_000.0
"""Unix seconds when CLOCK_BOOTTIME is 0."""
ACTUATOR = states.actuator(reason="no grant from the elector")
ELECTOR = states.elector(reason="pod-1 leads", holder="pod-1_1", fencing_token=6)
ARBITER = ArbiterState(grant=None, reason="", cluster_management=False)
POOL = PoolState(
    lock="default/cardano-pool-mainnet-pool1abcd1",
    phase=LockPhase.IDLE,
    holder="mainnet-pool1abcd1-us-1",
    sibling="",
    fencing_token=6,
    members=(),
    majority=2,
    cluster="mainnet-pool1abcd1-eu-1",
    wanted="mainnet-pool1abcd1-us-1",
    why="us-1 comes first",
    state="Priority-based",
    priority=2,
    conflict=False,
    clusters=(),
)
PROBER = states.prober()
HEALTHY = HealthReport("http://health.example/", True, 0, 1, 0.1, "health.example: answered 200")


class World:
    """One pod and who tells of it."""

    def __init__(self, now: int = 1000 * S) -> None:
        self.now = now
        self.began = now
        self.actuator, self.elector, self.arbiter, self.prober = ACTUATOR, ELECTOR, ARBITER, PROBER
        self.instance = "first"
        self.silent: dict[Worker, int] = {}
        """Who says nothing, and until when the last word of it was good."""
        self.sandboxes = dict.fromkeys(Worker, Sandbox(closed=True, audited_at=1))
        self.stopping = False
        self.teller = Teller()
        self.told: list[Notice] = []

    def seen(self) -> Seen:
        bodies: dict[Worker, Body] = {
            Worker.ACTUATOR: self.actuator,
            Worker.ELECTOR: self.elector,
            Worker.ARBITER: self.arbiter,
        }
        valid = {worker: self.silent.get(worker, self.now + 6 * S) for worker in bodies}
        states = {
            worker: State(worker, self.instance, 1, 1, 1, 1, valid[worker], body, self.sandboxes[worker])
            for worker, body in bodies.items()
        }
        return Seen(
            now=self.now,
            wall_s=WALL + self.now / S,
            states=states,
            own=self.prober,
            sandbox=self.sandboxes[Worker.PROBER],
            began=self.began,
            followed=FOLLOWED,
            stopping=self.stopping,
        )

    def look(self, after: float = 0.0) -> list[Notice]:
        """What is told `after` seconds more."""
        self.now += int(after * S)
        made = list(self.teller.look(self.seen()))
        self.told += made
        return made

    def names(self, after: float = 0.0) -> list[str]:
        return [notice.kind.name for notice in self.look(after)]

    def arm(self, token: int = 7) -> None:
        grant = Grant("pod-0_1", token, self.now + 3600 * S, self.now, True)
        self.actuator = dataclasses.replace(
            self.actuator, fence=Fence.ARMED, since=self.now, reason="the node forges", deadline=grant.deadline
        )
        self.arbiter = dataclasses.replace(self.arbiter, grant=grant)
        self.elector = dataclasses.replace(self.elector, role=Role.LEADER, reason="took over", fencing_token=token)

    def fence(self, fence: Fence = Fence.FENCED, why: str = "no grant from the elector") -> None:
        self.actuator = dataclasses.replace(self.actuator, fence=fence, since=self.now, reason=why, deadline=0)
        self.arbiter = dataclasses.replace(self.arbiter, grant=None)
        self.elector = dataclasses.replace(self.elector, role=Role.HANDOVER, reason="standing down as asked")

    def of_actuator(self, **changes: Any) -> None:
        self.actuator = dataclasses.replace(self.actuator, **changes)

    def of_prober(self, **changes: Any) -> None:
        self.prober = dataclasses.replace(self.prober, **changes)

    def of_pool(self, **changes: Any) -> None:
        pool = self.arbiter.pool or POOL
        self.arbiter = dataclasses.replace(self.arbiter, pool=dataclasses.replace(pool, **changes))

    def lead(self, role: Role = Role.LEADER) -> None:
        self.elector = dataclasses.replace(self.elector, role=role)


def settled() -> World:
    """A pod that has told that it is there."""
    world = World()
    assert world.names() == ["pod.started"]
    world.told.clear()
    return world
