"""What the arbiter of a leading pod says in the status of its CardanoForgeCluster.  Pure: texts of time come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from config import Config
from ipc.messages import HealthReport, NodeSample
from policy import credential_summary
from policy.arbitration import Cluster

Json = dict[str, Any]

READY: Final = "Ready"
"""Condition: this cluster forges, or could at once."""
FORGING: Final = "Forging"
PREFERRED: Final = "Preferred"
"""Condition: by this cluster's own view it should forge."""
ACCEPTED: Final = "SpecAccepted"
"""Condition: the spec can be read, and is that of this pool."""
CONFLICT: Final = "Conflict"
"""Condition: more than one cluster is Enabled."""
CREDENTIALS: Final = credential_summary.CONDITION
"""Condition: a node of the leading pod could forge with its credentials now."""
COUNTER: Final = "opCertCounter"
"""In status.poolStatus."""
COORDINATED: Final = "Coordinated"
"""Condition: a majority of the coordination APIs answers."""


_TOLD: Final = ((CONFLICT, True), (COORDINATED, False), (READY, False), (ACCEPTED, False), (CREDENTIALS, False))
"""Conditions whose change is an Event, and the value that is a bad one."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A Kubernetes condition without its time."""

    status: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What this cluster is.  Two that are equal need no write."""

    state: str
    priority: int
    leader: str
    forging: bool
    reason: str
    message: str
    token: int
    pool_leader: str
    conditions: tuple[tuple[str, Condition], ...]
    healthy: bool
    failures: int
    health_message: str
    counter: int | None = None
    """The highest counter of a certificate with which a block of this cluster's was made; None: not known."""


def status(
    report: Report,
    before: Json,
    *,
    config: Config,
    generation: int,
    health: HealthReport | None,
    sample: NodeSample | None,
    tip_lag_s: float | None,
    now: str,
) -> Json:
    """The whole status.  `before`: as it was read; `now`: RFC 3339, also this cluster's heartbeat."""
    since = before.get("lastTransition")
    changed = (report.state, report.leader, report.forging) != (
        before.get("effectiveState"),
        before.get("activeLeader") or "",
        before.get("forgingEnabled"),
    )
    network: Json = {
        "network": config.cardano_network,
        "magic": config.network_magic,
        "syncStatus": _sync(sample, tip_lag_s, config.max_tip_lag),
    }
    if sample is not None and sample.slot is not None:
        network["tipSlot"] = sample.slot
    if sample is not None and sample.epoch is not None:
        network["epochNo"] = sample.epoch
    shown: Json = {
        "effectiveState": report.state,
        "effectivePriority": report.priority,
        "networkStatus": network,
        "poolStatus": {"id": config.pool_id, "ticker": config.pool_ticker},
        "activeLeader": report.leader,
        "forgingEnabled": report.forging,
        "lastTransition": since if isinstance(since, str) and since and not changed else now,
        "reason": report.reason,
        "message": report.message,
        "healthStatus": {
            "healthy": report.healthy,
            "lastProbeTime": now,
            "consecutiveFailures": report.failures,
            "message": report.health_message,
        },
        "fencingToken": report.token,
        "poolLeader": report.pool_leader,
        "conditions": _conditions(report, before, generation, now),
        "observedGeneration": generation,
    }
    if report.counter is not None:
        shown["poolStatus"][COUNTER] = report.counter
    if health is not None and health.response_s is not None:
        shown["healthStatus"]["responseTime"] = f"{health.response_s * 1000:.0f}ms"
    return shown


def _conditions(report: Report, before: Json, generation: int, now: str) -> list[Json]:
    """Ours with the time of their last change, and those of others as they are."""
    listed = before.get("conditions")
    listed = [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    known = {c["type"]: c for c in listed if isinstance(c.get("type"), str)}
    found = []
    for name, condition in report.conditions:
        value = "True" if condition.status else "False"
        old = known.pop(name, {})
        since = old.get("lastTransitionTime") if old.get("status") == value else None
        found.append(
            {
                "type": name,
                "status": value,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": since if isinstance(since, str) and since else now,
                "observedGeneration": generation,
            }
        )
    return [*found, *known.values()]


def _sync(sample: NodeSample | None, tip_lag_s: float | None, most_s: float) -> str:
    if sample is None or not sample.answered:
        return "unknown"
    if tip_lag_s is None:
        return "unknown"
    return "synced" if tip_lag_s <= most_s else "syncing"


def counter_of(status: Json) -> int | None:
    """The certificate counter that a cluster says its blocks were made with; None: it says none."""
    pool = status.get("poolStatus")
    counter = pool.get(COUNTER) if isinstance(pool, dict) else None
    return counter if type(counter) is int and 0 <= counter < 2**63 else None


def condition_of(status: Json, name: str) -> Json:
    """One condition of a status as it was read; empty: there is none."""
    listed = status.get("conditions")
    found = [c for c in listed if isinstance(c, dict) and c.get("type") == name] if isinstance(listed, list) else []
    return found[0] if found else {}


def news(old: Report | None, new: Report) -> list[tuple[str, str, bool]]:
    """What an operator should hear of: (reason, message, warning) of each transition."""
    if old is None:
        return [("Leading", f"{new.leader} leads this cluster", False)]
    found: list[tuple[str, str, bool]] = []
    if old.forging != new.forging:
        found.append(("ForgingStarted" if new.forging else "ForgingStopped", new.message, False))
    if old.state != new.state:
        found.append(("StateChanged", f"{old.state} -> {new.state}", False))
    if old.priority != new.priority:
        found.append(("PriorityChanged", f"{old.priority} -> {new.priority}", False))
    if old.healthy != new.healthy:
        found.append(("HealthRecovered" if new.healthy else "HealthFailed", new.health_message, not new.healthy))
    before, after = dict(old.conditions), dict(new.conditions)
    for name, is_bad_when in _TOLD:
        was, now = before.get(name), after.get(name)
        if was is not None and now is not None and was.status != now.status:
            found.append((f"{name}" if now.status else f"Not{name}", now.message, now.status is is_bad_when))
    return found


def of_status(name: str, region: str, status: Json) -> Cluster:
    """Another cluster's word about itself; its spec is added by whoever read it."""
    ready, prefers = condition_of(status, READY), condition_of(status, PREFERRED)
    health = status.get("healthStatus")
    failures = health.get("consecutiveFailures") if isinstance(health, dict) else None
    leader, why = status.get("activeLeader"), ready.get("message")
    return Cluster(
        name=name,
        region=region,
        spec=None,
        ready=ready.get("status") == "True",
        why_not=why if isinstance(why, str) and why else "it does not say that it is ready",
        prefers_itself=prefers.get("status") == "True",
        coordinated=condition_of(status, COORDINATED).get("status") != "False",
        failures=failures if type(failures) is int and 0 <= failures < 1_000_000 else 0,
        leader=leader if isinstance(leader, str) else "",
    )
