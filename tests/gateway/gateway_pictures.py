"""Pictures of a pod for the gateway's tests: a healthy leader, and whatever a test changes of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from config import load
from devkit import states
from gateway.views import Picture
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    Body,
    CertificateView,
    Check,
    ClusterView,
    Fence,
    Finding,
    Grant,
    LockMember,
    LockPhase,
    NodeSample,
    NodeView,
    PoolState,
    ProberState,
    Proof,
    Role,
    Severity,
    StartFlag,
    Startup,
    State,
    Worker,
)
from policy import timing

S = timing.SECOND
NOW = 1_000 * S
CONFIG = load(
    {
        "POD_NAME": "pod-0",
        "POOL_ID": "pool1abcd1234567890",
        "CARDANO_NETWORK": "preprod",
        "CLUSTER_REGION": "eu-1",
        "CLUSTER_PRIORITY": "7",
    }
)
GRANT = Grant("pod-0_aa", 4, NOW + 9 * S, NOW - 3 * S, exclusive=True)

CERTIFICATE = CertificateView("pool1abcd1", 4, 1000, 7, 1796593440.0)
ACTUATOR = ActuatorState(
    fence=Fence.ARMED,
    since=NOW - 60 * S,
    proof=Proof.NONE,
    reason="the node forges",
    ready=True,
    refusals=(),
    warnings=(),
    node=NodeView(pid=17, start_ticks=5, up=True, takes_hup=True, flag=StartFlag.NON_PRODUCING, problem=""),
    node_gone_at=0,
    startup=Startup.UP,
    startup_reason="the node is up",
    mode="ephemeral",
    deadline=NOW + 9 * S,
    sighups_total={"enable": 2, "disable": 1},
    operations_total={"install/kes.skey": 2, "remove/kes.skey": 1},
    kills_total={},
    findings=(Finding(Check.KES_PERIOD, Severity.WARNING, "good for 7 KES periods more", "rotate"),),
    certificate=CERTIFICATE,
)
ELECTOR = states.elector(
    role=Role.LEADER,
    since=NOW - 61 * S,
    reason="took the free lease",
    identity="pod-0_aa",
    holder="pod-0_aa",
    fencing_token=4,
    grant=GRANT,
    changes_total=3,
    requests_total={"get": 2, "put": 40},
    failures_total=1,
)
ARBITER = ArbiterState(
    dataclasses.replace(GRANT, exclusive=False), "the lease is ours", cluster_management=False, api_ok=True
)
PROBER = ProberState(
    fit=True,
    since=NOW - 70 * S,
    reasons=(),
    sample=NodeSample(17, NOW - S, NOW - S, True, 1, 900, 12345, 3, 50),
    sampled_total=35,
    tip_lag_s=12.5,
    aliases=("slot=cardano_node_metrics_slotNum_int",),
)
POOL = PoolState(
    lock="default/cardano-pool-preprod-pool1abcd1",
    phase=LockPhase.HELD,
    holder="preprod-pool1abcd1-eu-1",
    sibling="",
    fencing_token=9,
    members=(
        LockMember("one", True, True, "preprod-pool1abcd1-eu-1", NOW + 8 * S),
        LockMember("two", True, True, "preprod-pool1abcd1-eu-1", NOW + 7 * S),
        LockMember("three", False, True, "", 0, "the API server cannot be reached: Connection refused"),
    ),
    majority=2,
    cluster="preprod-pool1abcd1-eu-1",
    wanted="preprod-pool1abcd1-eu-1",
    why="Priority-based, priority 107",
    state="Priority-based",
    priority=107,
    conflict=False,
    clusters=(
        ClusterView("preprod-pool1abcd1-eu-1", "eu-1", "Priority-based", 107, True, "", "pod-0", 0),
        ClusterView("preprod-pool1abcd1-us-1", "us-1", "Disabled", 3, False, "Disabled", "pod-9", NOW - 4 * S),
    ),
)
"""Of a pod whose cluster holds the pool-wide lock, with one of three coordination APIs away."""
MANAGED: dict[str, Any] = {"grant": GRANT, "cluster_management": True, "pool": POOL}
"""Changes of the arbiter's state."""
BODIES: dict[Worker, Body] = {
    Worker.ACTUATOR: ACTUATOR,
    Worker.ELECTOR: ELECTOR,
    Worker.ARBITER: ARBITER,
    Worker.PROBER: PROBER,
}


def state(body: Body, *, instance: str = "one", heard: int = NOW - S) -> State:
    """A state with that body, published at `heard`."""
    worker = next(worker for worker, known in BODIES.items() if type(known) is type(body))
    return State(worker, instance, 100, 1, NOW - 100 * S, heard, heard + timing.STATE_VALIDITY, body)


def picture(*, now: int = NOW, started_at: int = 0, silent: tuple[Worker, ...] = (), **changes: Any) -> Picture:
    """A healthy leader; `actuator={...}` and so on replace fields of that worker's state."""
    states = {}
    for worker, body in BODIES.items():
        if worker not in silent:
            states[worker] = state(dataclasses.replace(body, **changes.get(worker.value, {})))
    return Picture(
        config=CONFIG,
        version="1.2.3",
        now=now,
        started_at=started_at,
        states=states,
        connected=dict.fromkeys(states, True),
    )
