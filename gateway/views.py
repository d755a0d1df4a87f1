"""What the HTTP paths answer, computed from the workers' latest states.  Pure.

`now` and all instants are ns of CLOCK_BOOTTIME; durations in the answers are seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from config import Config
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    Cost,
    ElectorState,
    Fence,
    Grant,
    LockPhase,
    PoolState,
    ProberState,
    Role,
    Sandbox,
    Startup,
    State,
    Worker,
)
from ipc.shown import host_of
from policy import timing

STARTUP_GRACE: Final = 30 * timing.SECOND
WATCHED: Final = (Worker.ACTUATOR, Worker.PROBER, Worker.ARBITER, Worker.ELECTOR)
SANDBOXED: Final = (*WATCHED, Worker.GATEWAY)
_VERDICTS: Final = ("ready", "alive")
UNSURE: Final = "somebody whom it did not see may still have the right to forge (for a lease duration at most)"


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything the gateway knows at one instant."""

    config: Config
    version: str
    now: int
    started_at: int
    states: Mapping[Worker, State]
    """Last state of each worker that was ever heard of, valid or not."""
    connected: Mapping[Worker, bool]
    own: Sandbox | None = None
    """The gateway's own sandbox, where it is the one who looks."""
    own_cost: Cost | None = None
    """What the gateway itself costs, likewise."""
    own_files: Mapping[str, str] = field(default_factory=dict)
    """What the gateway reads of token and certificate, as far as it is set, likewise: what is wrong with it."""

    def fresh(self, worker: Worker) -> State | None:
        state = self.states.get(worker)
        return state if state is not None and self.now < state.valid_until else None

    @property
    def actuator(self) -> ActuatorState | None:
        state = self.fresh(Worker.ACTUATOR)
        return state.body if state is not None and isinstance(state.body, ActuatorState) else None

    @property
    def elector(self) -> ElectorState | None:
        state = self.fresh(Worker.ELECTOR)
        return state.body if state is not None and isinstance(state.body, ElectorState) else None

    @property
    def arbiter(self) -> ArbiterState | None:
        state = self.fresh(Worker.ARBITER)
        return state.body if state is not None and isinstance(state.body, ArbiterState) else None

    @property
    def pool(self) -> PoolState | None:
        """What the arbiter knows of the pool; None: cluster management is off, or the arbiter is silent."""
        return self.arbiter.pool if self.arbiter is not None else None

    @property
    def prober(self) -> ProberState | None:
        state = self.fresh(Worker.PROBER)
        return state.body if state is not None and isinstance(state.body, ProberState) else None

    @property
    def forging(self) -> bool:
        """Confirmed by the node: within the right that the kernel enforces (its end kills the actuator), or without.

        Without: told to stop, it says that it forges still.
        """
        actuator = self.actuator
        if actuator is None:
            return False
        if actuator.fence is Fence.FENCING:
            sample = self.prober.sample if self.prober is not None else None
            if sample is None or not sample.answered or sample.asked_at <= actuator.since:
                return False
            return sample.forging_enabled == 1
        return actuator.fence is Fence.ARMED and self.now < actuator.deadline

    @property
    def intended(self) -> bool:
        """Whether its node is meant to forge, be it confirmed or not."""
        actuator = self.actuator
        return actuator is not None and actuator.fence in (Fence.ARMING, Fence.ARMED) and self.now < actuator.deadline

    @property
    def unproven(self) -> bool:
        """Whether its node may forge still: told to stop, or beyond its right, and not proven yet to have stopped."""
        actuator = self.actuator
        return actuator is not None and actuator.fence is not Fence.FENCED and not (self.forging or self.intended)

    @property
    def leading(self) -> bool:
        return self.elector is not None and self.elector.role in (Role.LEADER, Role.HANDOVER)

    @property
    def enabled(self) -> bool:
        """Whether the pool may forge through this pod: it leads, by the Lease as it stands, and the arbiter agrees.

        While it hands over its own grant is gone already, but the Lease is not: nobody else is enabled then.  With
        cluster management the arbiter's grant is the pool-wide lock's, which one pod of the whole pool has at most.
        """
        elector, arbiter = self.elector, self.arbiter
        if elector is None or arbiter is None or not self._stands(arbiter.grant):
            return False
        return elector.role is Role.HANDOVER or (elector.role is Role.LEADER and self._stands(elector.grant))

    @property
    def goes_on_without_its_api(self) -> bool:
        """Whether it may forge by the pool-wide lock, which its own API server's absence does not end."""
        return self.pool is not None and self.pool.phase is LockPhase.HELD and self.enabled

    def _stands(self, grant: Grant | None) -> bool:
        return grant is not None and self.now < grant.deadline

    def sandbox(self, worker: Worker) -> Sandbox | None:
        """How far a worker says it is locked up; None: it is silent."""
        if worker is Worker.GATEWAY and self.own is not None:
            return self.own
        state = self.fresh(worker)
        return state.sandbox if state is not None else None

    def cost(self, worker: Worker) -> Cost | None:
        """What a worker's process costs, by its own account; None: it is silent."""
        if worker is Worker.GATEWAY and self.own_cost is not None:
            return self.own_cost
        state = self.fresh(worker)
        return state.cost if state is not None else None

    def seconds_since(self, instant: int) -> float:
        """Seconds from `instant` (ns) to now."""
        return round((self.now - instant) / timing.SECOND, 3)

    def seconds_until(self, instant: int) -> float:
        """Seconds from now to `instant` (ns), never below 0."""
        return max(instant - self.now, 0) / timing.SECOND

    def seconds_left(self, grant: Grant | None) -> float | None:
        """Seconds until a grant ends, never below 0; None without a grant."""
        return None if grant is None else round(self.seconds_until(grant.deadline), 3)


@dataclass(frozen=True, slots=True)
class Answer:
    """A probe's answer: the HTTP status and the JSON body."""

    status: int
    body: dict[str, Any]

    @property
    def verdict(self) -> dict[str, Any]:
        """The body without reasons."""
        return {name: value for name, value in self.body.items() if name in _VERDICTS}


def startup(picture: Picture) -> Answer:
    """/startup-status: may the node be started (or is it already up)?"""
    actuator = picture.actuator
    if actuator is None:
        return Answer(503, {"ready": False, "state": "unknown", "reason": "the actuator is silent"})
    ready = actuator.startup in (Startup.OFFERED, Startup.READ, Startup.UP)
    body = {"ready": ready, "state": str(actuator.startup), "reason": actuator.startup_reason}
    return Answer(200 if ready else 503, body)


def health(picture: Picture) -> Answer:
    """/health: are the workers alive?"""
    silent = [str(worker) for worker in WATCHED if picture.fresh(worker) is None]
    young = picture.now - picture.started_at < STARTUP_GRACE
    alive = not silent or young
    reasons = [f"the {worker} is silent" for worker in silent]
    return Answer(200 if alive else 503, {"alive": alive, "reasons": reasons})


def ready(picture: Picture) -> Answer:
    """/ready: does this pod forge, or could it take over at once?"""
    found = (_actuator_not_ready, _node_not_ready, _elector_not_ready, _arbiter_not_ready, _pool_not_ready)
    reasons = [reason for each in found for reason in each(picture)] or _stays_out(picture)
    return Answer(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})


def _actuator_not_ready(picture: Picture) -> tuple[str, ...]:
    actuator = picture.actuator
    if actuator is None:
        return ("the actuator is silent",)
    if actuator.ready or actuator.fence in (Fence.ARMED, Fence.ARMING):
        return ()
    return actuator.refusals or (actuator.reason,)


def _node_not_ready(picture: Picture) -> tuple[str, ...]:
    prober = picture.prober
    if prober is None:
        return ("the prober is silent",)
    return () if prober.fit else prober.reasons or ("the node is not fit",)


def _elector_not_ready(picture: Picture) -> tuple[str, ...]:
    elector = picture.elector
    if elector is None:
        return ("the elector is silent",)
    reachable = elector.api_ok or picture.goes_on_without_its_api
    reasons = () if reachable else ("the API server does not answer, or refuses",)
    if elector.drained:
        reasons = (*reasons, f"standing down until it is asked to come back: {elector.drained}")
    elif _standing_down(picture, elector):
        reasons = (*reasons, "standing down as asked")
    return (*reasons, UNSURE) if not picture.enabled and picture.now < elector.unsure_until else reasons


def paused(picture: Picture) -> str:
    """Until when nothing is handed or taken over by itself, what, and why; empty: it is."""
    elector, pool = picture.elector, picture.pool
    found = [f"the lease, {elector.paused}"] if elector is not None and elector.paused else []
    found += [f"the pool-wide lock, {pool.paused}"] if pool is not None and pool.paused else []
    return "; ".join(found)


def _stays_out(picture: Picture) -> list[str]:
    """Why the elector does not contend, where nothing else has told it: just started, or giving others a turn."""
    elector = picture.elector
    return [elector.reason] if elector is not None and elector.role is Role.OBSERVER else []


def _arbiter_not_ready(picture: Picture) -> tuple[str, ...]:
    arbiter = picture.arbiter
    if arbiter is None:
        return ("the arbiter is silent",)
    reachable = arbiter.api_ok or picture.goes_on_without_its_api
    reasons = () if reachable else ("the API server does not answer the arbiter, or refuses",)
    unsure = not picture.enabled and picture.now < arbiter.unsure_until
    return (*reasons, f"the arbiter: {UNSURE}") if unsure else reasons


def _pool_not_ready(picture: Picture) -> tuple[str, ...]:
    """Without a majority of the coordination APIs nobody can take or keep the pool-wide lock from here."""
    pool = picture.pool
    if pool is None:
        return ()
    if pool.objection:
        return (pool.objection,)
    away = [member.name for member in pool.members if not member.api_ok]
    count = len(pool.members)
    if count - len(away) >= pool.majority:
        return ()
    return (f"{count - len(away)} of {count} coordination APIs answer, {pool.majority} must: {', '.join(away)} not",)


def told_by_majority(pool: PoolState) -> bool:
    """Whether what is known of the pool-wide lock is what a majority says now, and one that means something."""
    return not pool.objection and sum(member.api_ok for member in pool.members) >= pool.majority


def status(picture: Picture) -> dict[str, Any]:
    """/status: everything, for people and tools."""
    config, actuator, elector = picture.config, picture.actuator, picture.elector
    return {
        "pod": config.pod_name,
        "namespace": config.namespace,
        "version": picture.version,
        "network": config.cardano_network,
        "pool": {"id": config.pool_id, "ticker": config.pool_ticker, "name": config.pool_name} | _pool(picture),
        "forging": picture.forging,
        "leader": _leader(picture),
        "grants": _grants(picture),
        "fence": None
        if actuator is None
        else {
            "state": str(actuator.fence),
            "proof": str(actuator.proof),
            "reason": actuator.reason,
            "seconds": picture.seconds_since(actuator.since),
            "mode": actuator.mode,
            "ready": actuator.ready,
            "refusals": list(actuator.refusals),
        },
        "credentials": None if actuator is None else _credentials(actuator),
        "node": _node(picture),
        "leadership": _leadership(picture),
        "health_check": _health_check(picture),
        "startup": startup(picture).body,
        "health": health(picture).body,
        "ready": ready(picture).body,
        "warnings": [
            *(actuator.warnings if actuator is not None else ()),
            *_sandbox_warnings(picture),
            *([picture.prober.schedule_problem] if picture.prober and picture.prober.schedule_problem else ()),
            *filter(None, picture.own_files.values()),
            *_notice_warnings(picture),
        ],
        "sandbox": {str(worker): _sandbox(picture, worker) for worker in SANDBOXED},
        "workers": {str(worker): _worker(picture, worker) for worker in WATCHED},
        "standing_down_seconds": _standing_down(picture, elector),
        "drained": elector.drained if elector is not None and elector.drained else None,
        "paused": paused(picture),
    }


def _credentials(actuator: ActuatorState) -> dict[str, Any]:
    """What is public of the source credentials, and what is wrong with them."""
    certificate = actuator.certificate
    return {
        "certificate": None if certificate is None else dataclasses.asdict(certificate),
        "findings": [dataclasses.asdict(finding) for finding in actuator.findings],
    }


def _leader(picture: Picture) -> dict[str, Any] | None:
    elector = picture.elector
    if elector is None:
        return None
    return {
        "role": str(elector.role),
        "seconds": picture.seconds_since(elector.since),
        "reason": elector.reason,
        "identity": elector.identity,
        "holder": elector.holder,
        "lease": elector.lease,
        "token": elector.fencing_token,
        "api_ok": elector.api_ok,
    }


def _pool(picture: Picture) -> dict[str, Any]:
    """The pool-wide lock and the pool's clusters; empty while nothing is known of them."""
    pool = picture.pool
    if pool is None:
        return {}
    return {
        "lock": pool.lock,
        "phase": str(pool.phase),
        "holder": pool.holder,
        "token": pool.fencing_token,
        "majority": pool.majority,
        "objection": pool.objection,
        "members": [
            {
                "name": member.name,
                "api_ok": member.api_ok,
                "crd_ok": member.crd_ok,
                "problem": member.problem,
                "holder": member.holder,
                "seconds_left": round(picture.seconds_until(member.ours_until), 3),
            }
            for member in pool.members
        ],
        "cluster": pool.cluster,
        "wanted": pool.wanted,
        "why": pool.why,
        "state": pool.state,
        "priority": pool.priority,
        "conflict": pool.conflict,
        "clusters": [
            {
                "name": cluster.name,
                "region": cluster.region,
                "state": cluster.state,
                "priority": cluster.priority,
                "eligible": cluster.eligible,
                "why_not": cluster.why_not,
                "leader": cluster.leader,
                "heard_seconds_ago": picture.seconds_since(cluster.changed_at) if cluster.changed_at else None,
            }
            for cluster in pool.clusters
        ],
    }


def _grants(picture: Picture) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, body in (("elector", picture.elector), ("arbiter", picture.arbiter)):
        grant = body.grant if body is not None else None
        shown[name] = (
            None
            if grant is None
            else {
                "seconds_left": picture.seconds_left(grant),
                "exclusive": grant.exclusive,
                "token": grant.fencing_token,
                "holder": grant.holder,
            }
        )
    return shown


def _node(picture: Picture) -> dict[str, Any]:
    actuator, prober = picture.actuator, picture.prober
    shown: dict[str, Any] = {"pid": None, "up": False, "flag": None, "fit": False, "reasons": ["the prober is silent"]}
    if actuator is not None and actuator.node is not None:
        shown |= {"pid": actuator.node.pid, "up": actuator.node.up, "flag": str(actuator.node.flag)}
    if prober is not None:
        shown |= {"fit": prober.fit, "reasons": list(prober.reasons), "tip_lag_seconds": prober.tip_lag_s}
        if prober.sample is not None:
            shown |= {
                "slot": prober.sample.slot,
                "epoch": prober.sample.epoch,
                "forging_enabled": prober.sample.forging_enabled,
                "metrics_answer": prober.sample.answered,
            }
        shown["metric_names"] = {k: v for k, _, v in (a.partition("=") for a in prober.aliases)}
    return shown


def _leadership(picture: Picture) -> dict[str, Any] | None:
    """When the pool has its next slot, and when a planned hand-over may begin; None: there is no schedule."""
    prober = picture.prober
    if prober is None or picture.config.leadership_schedule is None:
        return None
    return {
        "next_slot_seconds": round(picture.seconds_until(prober.leads_at), 1) if prober.leads_at else None,
        "quiet_in_seconds": round(picture.seconds_until(prober.quiet_at), 1),
        "problem": prober.schedule_problem,
    }


def _health_check(picture: Picture) -> dict[str, Any] | None:
    """What came of asking the cluster's endpoint, of which no more than the host is shown; None: nothing is known."""
    report = picture.prober.health if picture.prober is not None else None
    if report is None:
        return None
    return {
        "host": host_of(report.endpoint),
        "healthy": report.healthy,
        "consecutive_failures": report.consecutive_failures,
        "message": report.message,
        "response_seconds": report.response_s,
        "checked_seconds_ago": picture.seconds_since(report.checked_at) if report.checked_at else None,
    }


def _worker(picture: Picture, worker: Worker) -> dict[str, Any]:
    state = picture.states.get(worker)
    if state is None:
        return {"alive": False, "connected": False}
    return {
        "alive": picture.fresh(worker) is not None,
        "connected": picture.connected.get(worker, False),
        "pid": state.pid,
        "instance": state.instance,
        "up_seconds": picture.seconds_since(state.started_at),
        "heard_seconds_ago": picture.seconds_since(state.sent_at),
        "cost": _cost(state.cost),
    }


def gateway(picture: Picture) -> dict[str, Any]:
    """Of the one who tells this."""
    cost = picture.own_cost
    up = picture.seconds_since(picture.started_at)
    return {"alive": True, "up_seconds": up, "cost": _cost(cost) if cost is not None else None}


def _cost(cost: Cost) -> dict[str, Any] | None:
    """What the worker measured of itself last; None: it has not yet."""
    if not cost.measured_at:
        return None
    return {
        "cpu_seconds": round(cost.cpu_ns / timing.SECOND, 3),
        "memory_bytes": cost.memory_bytes,
        "open_files": cost.open_files,
    }


def _sandbox(picture: Picture, worker: Worker) -> dict[str, Any] | None:
    sandbox = picture.sandbox(worker)
    if sandbox is None:
        return None
    return {
        "closed": sandbox.closed,
        "separation": sandbox.separation,
        "missing": list(sandbox.missing),
        "violations": list(sandbox.violations),
        "audited_seconds_ago": picture.seconds_since(sandbox.audited_at) if sandbox.audited_at else None,
    }


def _sandbox_warnings(picture: Picture) -> list[str]:
    found = []
    for worker in SANDBOXED:
        sandbox = picture.sandbox(worker)
        if sandbox is None:
            continue
        if not sandbox.closed:
            found.append(f"the {worker}'s sandbox is not closed (SANDBOX=permissive): {'; '.join(sandbox.missing)}")
        if sandbox.violations:
            found.append(f"the {worker} can do what it does not declare: {'; '.join(sandbox.violations)}")
    return found


def _notice_warnings(picture: Picture) -> list[str]:
    told = picture.prober.notifications if picture.prober is not None else None
    return [f"notices do not arrive ({told.queued} wait): {told.problem}"] if told is not None and told.problem else []


def _standing_down(picture: Picture, elector: ElectorState | None) -> float:
    if elector is None or not elector.standing_down_until:
        return 0.0
    return round(picture.seconds_until(elector.standing_down_until), 3)
