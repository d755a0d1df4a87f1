"""A pool without cluster management, seen from wherever a kubeconfig is: its CardanoLeader, and the election's Lease.

Such a pool has no CardanoForgeCluster.  What a CardanoLeader says was so when its leader wrote it; that it still forges
is believed only while the Lease of the same pod stands, by this machine's clock.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from cli.asking import columns
from cli.coordination import TIMEOUT_S, LockSeen, Member, Pool, in_words, instant, items_of, lease_seen
from cli.wording import span, text_of, utc
from kube.errors import ApiFailure
from kube.session import Json
from policy.election import pod_of
from policy.pause import acting

HEAD: Final = ("LEADER", "POD", "FORGING", "LEASE", "HELD BY", "RENEWED", "WHY")


@dataclass(frozen=True, slots=True)
class Leader:
    """One CardanoLeader, and its Lease as far as one is found."""

    member: str
    name: str
    status: Json
    lease: str
    """Name; empty: there is none that is its."""
    seen: LockSeen | None
    problem: str = ""
    """Why its Lease is not known."""

    @property
    def pod(self) -> str:
        return text_of(self.status, "leaderPod")

    @property
    def said(self) -> bool:
        return self.status.get("forgingEnabled") is True

    def forging(self, wall_s: float) -> bool | None:
        """None: it said so, and whether it still holds is not known."""
        if not self.said or not self.pod:
            return False
        if self.seen is None:
            return None if self.problem or not self.lease else False
        return self.seen.stands(wall_s) and pod_of(self.seen.record.holder) == self.pod

    def why(self, wall_s: float) -> str:
        told = text_of(self.status, "message") or "it says nothing"
        at = instant(self.status.get("lastTransitionTime"))
        told += f", for {span(max(wall_s - at, 0))}" if at is not None and self.forging(wall_s) else ""
        if self.forging(wall_s) is None:
            return f"it said: {told}; its Lease is not known: {self.problem or 'none is of its name or pod'}"
        if self.said and not self.forging(wall_s):
            return f"not any more: its Lease {_state_of(self.seen, wall_s)}; it said: {told}"
        return told


def _state_of(seen: LockSeen | None, wall_s: float) -> str:
    if seen is None or not seen.record.holder:
        return "was released"
    if not seen.stands(wall_s):
        return "ran out"
    return f"is held by {seen.record.holder}"


async def leaders(pool: Pool) -> list[Leader]:
    """Those in the namespaces that were asked, of the pool and network that were asked for."""
    found = await asyncio.gather(*(_of(pool, member) for member in pool.members if member.answers))
    return [each for part in found for each in part]


async def _of(pool: Pool, member: Member) -> list[Leader]:
    assert member.session is not None
    config, namespace = pool.config, member.place.namespace
    folder = f"/apis/{config.crd_group}/{config.crd_version}/namespaces/{namespace}/{config.crd_plural}"
    try:
        items = items_of(await member.session.request("list", folder, timeout_s=TIMEOUT_S))
    except ApiFailure as failure:
        member.leaders_problem = in_words(failure)
        return []
    member.leaders_problem = ""
    leases: dict[str, LockSeen] = {}
    problem = ""
    try:
        listed = await member.session.request(
            "list", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", timeout_s=TIMEOUT_S
        )
        for raw in items_of(listed):
            leases[_name_of(raw)] = lease_seen(raw)
    except ApiFailure as failure:
        problem = str(failure)
    made = []
    for raw in items:
        status, name = raw.get("status"), _name_of(raw)
        if not pool.means(name):
            continue
        status = status if isinstance(status, dict) else {}
        lease = _lease_of(name, text_of(status, "leaderPod"), config.crd_name, config.lease_name, leases)
        made.append(Leader(member.name, name, status, lease, leases.get(lease), problem))
    return sorted(made, key=lambda each: each.name)


def _name_of(raw: Json) -> str:
    metadata = raw.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _lease_of(name: str, pod: str, usual: str, usual_lease: str, leases: dict[str, LockSeen]) -> str:
    """With POOL_ID both are called alike; else by their usual names; else by the pod that has it.  Empty: none."""
    if name in leases:
        return name
    if name == usual and usual_lease in leases:
        return usual_lease
    held = [lease for lease, seen in leases.items() if pod and pod_of(seen.record.holder) == pod]
    return held[0] if len(held) == 1 else ""


# --- telling ---


def fine(pool: Pool, found: list[Leader]) -> bool:
    """Whether every one of them forges."""
    return all(each.forging(pool.wall_s) for each in found)


def table(pool: Pool, found: list[Leader]) -> list[str]:
    several = len(pool.members) > 1
    rows = [HEAD]
    for each in found:
        forging, seen = each.forging(pool.wall_s), each.seen
        ago = "-" if seen is None or seen.renewed_at is None else f"{span(max(pool.wall_s - seen.renewed_at, 0))} ago"
        rows.append(
            (
                f"{each.name} on {each.member}" if several else each.name,
                each.pod or "-",
                "?" if forging is None else "yes" if forging else "no",
                each.lease or "-",
                (seen.record.holder if seen is not None else "") or "-",
                ago,
                each.why(pool.wall_s),
            )
        )
    off = f"no CardanoForgeCluster is in namespace {pool.namespaces}: without cluster management there is none"
    below = [("clusters", off)]
    below += [
        ("paused", f"{each.lease}, {until}")
        for each in found
        if each.seen and (until := _paused(each.seen, pool.wall_s))
    ]
    below += [
        (f"member/{member.name}", f"not asked: {member.problem}") for member in pool.members if not member.answers
    ]
    return [*columns(rows), "", *columns(below)]


def _paused(seen: LockSeen, wall_s: float) -> str:
    pause = acting(seen.record.paused, wall_s)
    return str(pause) if pause is not None else ""


def as_json(pool: Pool, found: list[Leader]) -> list[dict[str, Any]]:
    return [
        {
            "api": each.member,
            "name": each.name,
            "pod": each.pod or None,
            "forging": each.forging(pool.wall_s),
            "said_forging": each.said,
            "since": text_of(each.status, "lastTransitionTime") or None,
            "lease": each.lease or None,
            "holder": (each.seen.record.holder or None) if each.seen is not None else None,
            "renewed_at": utc(each.seen.renewed_at) if each.seen is not None and each.seen.renewed_at else None,
            "paused": (_paused(each.seen, pool.wall_s) or None) if each.seen is not None else None,
            "why": each.why(pool.wall_s),
        }
        for each in found
    ]
