"""One look: who forges, where, since when, until when the right lasts, who is next, and why.  Pure.

What the page at `/` and `forgectl why` say.  A pod knows of others what the Lease and the pool-wide lock tell; what
nobody told it is "unknown", never guessed.  Both tell who has the right to forge: that a node forges, only its own pod
sees.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

from gateway import views
from gateway.chronicle import Chronicle
from gateway.views import Picture, told_by_majority
from ipc.messages import ClusterView, Fence, PoolState, Worker
from policy.election import pod_of

_TOO_EARLY: Final = "somebody whom this pod did not see may still have the right"


class Standing(enum.StrEnum):
    """How this pod stands to forging."""

    FORGING = "forging"
    STANDBY = "standby"
    """It does not forge, and could take over at once."""
    FENCED = "fenced"
    """It does not forge and could not take over, or should forge and does not; `why` says what is in the way."""
    CONFLICT = "conflict"
    """More than one cluster is Enabled: one of them forges all the same, the others must be told what they are."""
    UNKNOWN = "unknown"
    """Workers that would know are silent, or nothing has proven yet that this pod's node has stopped."""


@dataclass(frozen=True, slots=True)
class Headline:
    """Instants are ns of CLOCK_BOOTTIME, 0: not known."""

    standing: Standing
    title: str
    forger: str
    """Pod; empty: nobody, or not known."""
    cluster: str
    """Of the forger; empty: likewise."""
    since: int
    until: int
    """End of the forger's right, should it not be renewed."""
    next: str
    """Who takes over if the forger goes."""
    why: tuple[str, ...]
    """The reasons for how this pod stands, the weightiest first."""


@dataclass(frozen=True, slots=True)
class _Forger:
    pod: str
    cluster: str
    since: int
    until: int


def headline(picture: Picture, chronicle: Chronicle) -> Headline:
    """By what is known at `picture.now`."""
    forger = _forger(picture, chronicle)
    standing = _standing(picture, forger)
    return Headline(
        standing=standing,
        title=_title(picture, standing, forger),
        forger=forger.pod if forger is not None else "",
        cluster=forger.cluster if forger is not None else "",
        since=forger.since if forger is not None else 0,
        until=forger.until if forger is not None else 0,
        next=_next(picture, standing, forger),
        why=_why(picture, standing),
    )


def _standing(picture: Picture, forger: _Forger | None) -> Standing:
    if picture.actuator is None or picture.elector is None:
        return Standing.UNKNOWN
    if picture.pool is not None and picture.pool.conflict:
        return Standing.CONFLICT
    if picture.forging:
        return Standing.FORGING
    if picture.unproven:
        return Standing.UNKNOWN
    waits_for_another = forger is not None or not picture.leading
    could = views.ready(picture).status == 200 and not _disabled(picture)
    return Standing.STANDBY if waits_for_another and could else Standing.FENCED


def _disabled(picture: Picture) -> str:
    """Why this pod's cluster may not forge, however ready the pod is: somebody disabled it; empty: nobody did."""
    pool = picture.pool
    if pool is None or pool.state != "Disabled":
        return ""
    told = next((cluster.why_not for cluster in pool.clusters if cluster.name == pool.cluster), "")
    return f"its cluster may not forge: {told or pool.state}"


def _forger(picture: Picture, chronicle: Chronicle) -> _Forger | None:
    """None: nobody that this pod knows of."""
    config, actuator, elector, pool = picture.config, picture.actuator, picture.elector, picture.pool
    own = pool.cluster if pool is not None else config.cluster
    if picture.forging and actuator is not None:
        return _Forger(config.pod_name, own, actuator.since, actuator.deadline)
    if pool is not None:
        return _holder_of_the_pool(pool, chronicle)
    if config.enable_cluster_management or elector is None or picture.leading:
        return None
    if not elector.holder or elector.holder == elector.identity or picture.now >= elector.holder_until:
        return None
    since = chronicle.since("lease", elector.holder)
    return _Forger(pod_of(elector.holder), own, since, elector.holder_until)


def _holder_of_the_pool(pool: PoolState, chronicle: Chronicle) -> _Forger | None:
    if not told_by_majority(pool):
        return None  # whom it names held the lock when a majority was last heard
    if not pool.holder or (pool.holder == pool.cluster and not pool.sibling):
        return None  # ours, and our node does not forge
    since = chronicle.since("lock", pool.holder)
    if pool.sibling:
        return _Forger(pod_of(pool.sibling.partition("/")[2]), pool.cluster, since, 0)
    leader = next((cluster.leader for cluster in pool.clusters if cluster.name == pool.holder), "")
    return _Forger(leader, pool.holder, since, 0)


def _title(picture: Picture, standing: Standing, forger: _Forger | None) -> str:
    if picture.forging:
        return "This pod forges" if picture.elector is not None else "This pod forges, and its elector is silent"
    if picture.unproven:
        return "It is not proven that this pod's node has stopped forging"
    if standing is Standing.UNKNOWN:
        return "It is not known who forges: workers of this pod are silent"
    if forger is not None:
        who = forger.pod or "a pod that its cluster does not name"
        return f"{who} has the right to forge" + (f" in {forger.cluster}" if picture.pool is not None else "")
    if picture.intended:
        return "This pod is about to forge: its node has not confirmed yet"
    if unseen := _unseen(picture):
        return f"It is not known who forges: {unseen}"
    return "Nobody forges, as far as this pod sees"


def _unseen(picture: Picture) -> str:
    """Why this pod, which does not forge, cannot tell that nobody else does; empty: it can."""
    elector, arbiter, pool = picture.elector, picture.arbiter, picture.pool
    if picture.config.enable_cluster_management:
        if arbiter is None:
            return "the arbiter is silent"
        if pool is None:
            return "the arbiter has not heard of the pool yet"
        if not told_by_majority(pool):
            return "no majority of the coordination APIs tells this pod"
        return _TOO_EARLY if picture.now < arbiter.unsure_until else ""
    if elector is None or picture.leading:
        return ""
    if not elector.api_ok:
        return "the API server does not answer, or refuses"
    unsure_until = max(elector.unsure_until, arbiter.unsure_until if arbiter is not None else 0)
    return _TOO_EARLY if not elector.settled or picture.now < unsure_until else ""


def _next(picture: Picture, standing: Standing, forger: _Forger | None) -> str:
    pool, elector = picture.pool, picture.elector
    here = "this pod" if standing is Standing.STANDBY else ""
    if elector is not None and elector.paused:
        return f"nobody: the lease stays with its pod, {elector.paused}"
    if pool is not None and pool.paused and forger is not None and forger.cluster != pool.cluster:
        return f"a pod of the same cluster: the lock stays there, {pool.paused}"
    if pool is not None and pool.paused and forger is None and not picture.intended:
        return f"a pod of the cluster that had the lock: it stays there, {pool.paused}"
    if not picture.forging and _unseen(picture):
        return "unknown"
    if pool is None:
        return here or ("another pod of this cluster that is ready" if picture.forging else "unknown")
    if here and forger is not None and forger.cluster == pool.cluster:
        return here
    others = [each for each in pool.clusters if each.eligible and (forger is None or each.name != forger.cluster)]
    if here and picture.leading and others and others[0].name == pool.cluster:
        return f"{here}, in {pool.cluster}"
    found = _named(others[0]) if others else "no other cluster can"
    found = f"nobody: the lock stays here, {pool.paused}" if pool.paused else found
    siblings = "another pod of this cluster that is ready, else " if picture.forging else ""
    return f"{siblings}{found}"


def _named(cluster: ClusterView) -> str:
    return f"{cluster.leader or 'a pod'} in {cluster.name}"


def _why(picture: Picture, standing: Standing) -> tuple[str, ...]:
    actuator, elector, pool = picture.actuator, picture.elector, picture.pool
    reasons = [f"the {worker} is silent" for worker in views.WATCHED if picture.fresh(worker) is None]
    if actuator is None or elector is None:
        return (*reasons, *([f"{actuator.fence}: {actuator.reason}"] if actuator is not None else ()))
    if standing is Standing.CONFLICT and pool is not None:
        enabled = ", ".join(cluster.name for cluster in pool.clusters if cluster.state == "Enabled")
        reasons.append(f"more than one cluster is Enabled: {enabled}")
    if not picture.forging and standing is not Standing.STANDBY:
        reasons += [*filter(None, [_disabled(picture)]), *views.ready(picture).body["reasons"]]
    if picture.forging or actuator.fence is not Fence.FENCED or not reasons:
        reasons.append(f"{actuator.fence}: {actuator.reason}")
    reasons.append(f"{elector.role}: {elector.reason}")
    if paused := views.paused(picture):
        reasons.append(f"paused: {paused}")
    if pool is not None and pool.why:
        reasons.append(f"the pool: {pool.why}")
    return tuple(dict.fromkeys(reasons))


def page(picture: Picture, chronicle: Chronicle, wall_s: float) -> dict[str, Any]:
    """Everything that the page shows; `wall_s`: Unix seconds at `picture.now`."""
    told, status = headline(picture, chronicle), views.status(picture)
    status["workers"][str(Worker.GATEWAY)] = views.gateway(picture)
    return {
        "now": round(wall_s, 3),
        "headline": {
            "standing": str(told.standing),
            "title": told.title,
            "forger": told.forger,
            "cluster": told.cluster,
            "since_seconds": picture.seconds_since(told.since) if told.since else None,
            "until_seconds": round(picture.seconds_until(told.until), 3) if told.until else None,
            "next": told.next,
            "why": list(told.why),
        },
        "status": status,
        "kes": _kes(picture, wall_s),
        "timeline": [
            {
                "seconds_ago": picture.seconds_since(each.at),
                "time": round(wall_s - picture.seconds_since(each.at), 3),
                "about": each.about,
                "old": each.old,
                "new": each.new,
                "why": each.why,
                "token": each.token,
            }
            for each in reversed(chronicle.entries)
        ],
    }


def _kes(picture: Picture, wall_s: float) -> dict[str, Any] | None:
    """How long the certificate is good; None: it is not known."""
    certificate = picture.actuator.certificate if picture.actuator is not None else None
    if certificate is None or certificate.expires_at is None:
        return None
    return {
        "days_left": round((certificate.expires_at - wall_s) / 86400, 1),
        "periods_left": certificate.periods_left,
        "expires_at": certificate.expires_at,
    }
