"""`forgectl clusters`: the pool's clusters and its lock, as a table and as JSON.

Exit code 1 where no cluster says that it forges, more than one is Enabled, or what is said of one cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from cli import lone
from cli.asking import columns, printable
from cli.coordination import Member, Pool, with_pool
from cli.wording import span, text_of, utc
from config import Config
from policy.arbitration import Override
from workers.cluster_report import READY, condition_of

HEAD: Final = ("CLUSTER", "REGION", "STATE", "PRIORITY", "READY", "HEALTHY", "LEADER", "FORGING", "SAID", "WHY")
SETS_DIFFER: Final = (
    "the locks were written by pods that count different coordination APIs, and each may have a forger: set "
    "COORDINATION_KUBECONFIGS alike on every pod of the pool (docs/clusters.md, Changing the set)"
)


def command(config: Config, arguments: argparse.Namespace) -> None:
    """Print; exit 1 unless exactly as it should be."""
    if not with_pool(config, arguments, _show_json if arguments.json else _show_table):
        sys.stdout.flush()
        sys.exit(1)


async def _show_json(pool: Pool) -> bool:
    found = [] if pool.clusters else await lone.leaders(pool)
    shown = as_json(pool) | {"leaders": lone.as_json(pool, found)}
    if found:
        shown["forging"] = [each.pod for each in found if each.forging(pool.wall_s)]
    print(json.dumps(shown, indent=2))
    return lone.fine(pool, found) if found else fine(pool)


async def _show_table(pool: Pool) -> bool:
    if not pool.clusters and (found := await lone.leaders(pool)):
        print("\n".join(lone.table(pool, found)))
        return lone.fine(pool, found)
    print("\n".join(table(pool)))
    return fine(pool)


def fine(pool: Pool) -> bool:
    """Whether all is well: a cluster forges, and no older manager beside the lock.

    And what persons say is read and does not contradict itself, and all mean the same lock.
    """
    read = not any(known.unreadable for known in pool.clusters.values())
    one = any(map(pool.forging, pool.clusters)) and not any(map(pool.older, pool.clusters))
    return one and read and not pool.conflict() and not pool.sets_differ


# --- for people ---


def table(pool: Pool) -> list[str]:
    """The clusters, the best first, and below them the lock."""
    lines = columns([HEAD, *(_row(pool, name) for name in ordered(pool))]) if pool.clusters else []
    rows = [("pool", pool.label or "unknown"), *_verdict(pool), *_lock_rows(pool)]
    width = max(len(name) for name, _ in rows)
    return [*lines, *([""] if lines else []), *(f"{printable(f'{name:<{width}}  {text}')}" for name, text in rows)]


def ordered(pool: Pool) -> list[str]:
    """Those that can forge in the order of preference, then the others by name."""
    ranked = [cluster.name for cluster in pool.ranking()]
    return [*ranked, *(name for name in pool.clusters if name not in ranked)]


def _row(pool: Pool, name: str) -> tuple[str, ...]:
    shown = cluster_json(pool, name)
    said = "never" if shown["said_seconds_ago"] is None else f"{span(shown['said_seconds_ago'])} ago"
    why = shown["why_not"] or shown["reason"]
    if shown["unreadable"]:
        why = "; ".join(filter(None, (f"its spec cannot be read: {shown['unreadable']}", _standing(pool, name, why))))
    claims = pool.said_forging(name)
    older = pool.older(name)
    if older:
        why = f"{shown['leader']} says so, as the older manager writes it, which looks at no lock; it said: {why}"
    elif claims and pool.lost(name):
        why = f"it has not the lock any more; it said: {why}"
    if shown["override"] is not None:
        why = f"{why}; {override_text(shown['override'])}"
    return (
        name,
        shown["region"],
        shown["state"] or "?",
        str(shown["priority"]),
        _yes(shown["ready"]),
        _yes(shown["healthy"]),
        shown["leader"] or "-",
        _yes(older or (None if claims and not shown["forging"] else shown["forging"])),
        said,
        why,
    )


def _standing(pool: Pool, name: str, why: str) -> str:
    """`why` of a cluster whose spec cannot be read as a whole, unless it says just that."""
    return why if pool.clusters[name].judged.spec is not None else ""


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def override_text(shown: dict[str, Any]) -> str:
    until = f"until {shown['expires_at']}" if shown["expires_at"] else "without an end"
    return f"override {until}" + (f" ({shown['reason']})" if shown["reason"] else "")


def _verdict(pool: Pool) -> list[tuple[str, str]]:
    forging = [name for name in ordered(pool) if pool.forging(name)]
    if not pool.clusters:
        named = f" of {pool.label}" if pool.label else ""
        if unread := [f"{each.name}: {each.leaders_problem}" for each in pool.members if each.leaders_problem]:
            return [("forging", f"unknown: the CardanoLeaders could not be read: {'; '.join(unread)}")]
        there = f"no CardanoForgeCluster and no CardanoLeader{named} is in namespace {pool.namespaces}"
        return [("forging", f"unknown: {there} (another by -n)")]
    lost = [name for name in ordered(pool) if pool.said_forging(name) and not pool.silent(name) and pool.lost(name)]
    nobody = f"nobody, as far as is known: {', '.join(lost)} has not the lock any more" if lost else "nobody says so"
    rows = [("forging", ", ".join(forging) or nobody)]
    ranking = pool.ranking()
    rows.append(("should forge", ranking[0].name if ranking else "no cluster can forge"))
    if older := [name for name in ordered(pool) if pool.older(name)]:
        rows.append(("older manager", f"forges in {', '.join(older)}, whoever holds the lock: docs/upgrading.md"))
    if both := pool.conflict():
        rows.append(("conflict", f"Enabled at once: {', '.join(both)}; the best of them forges"))
    return rows


def _lock_rows(pool: Pool) -> list[tuple[str, str]]:
    holder, votes = pool.holder()
    if not holder:
        told = "held by nobody, as far as is known"
    else:
        told = f"held by {holder}, say {votes} of {pool.count} coordination APIs"
        told += "" if votes > pool.count // 2 else ", which is no majority"
    rows = [("lock", f"cardano-pool-{pool.label}, token {pool.token}: {told}" if pool.label else "unknown")]
    if pool.paused:
        rows.append(("paused", f"the lock stays in its cluster, {pool.paused}; forgectl resume ends it"))
    if pool.sets_differ:
        rows.append(("sets differ", SETS_DIFFER))
    return rows + [(f"member/{member.name}", _member_text(pool, member)) for member in pool.members]


def _member_text(pool: Pool, member: Member) -> str:
    if not member.answers:
        return f"not asked: {member.problem}"
    if member.lock is None:
        return member.lock_problem or "no Lease"
    record = member.lock.record
    token = f"token {record.transitions}"
    if not record.holder:
        return f"released, {token}"
    if member.lock.renewed_at is None:
        return f"held by {record.holder}, {token}"
    ago = span(max(pool.wall_s - member.lock.renewed_at, 0))
    held = "held" if member.lock.stands(pool.wall_s) else "ran out; was held"
    return f"{held} by {record.holder}, {token}, renewed {ago} ago"


# --- for programs ---


def as_json(pool: Pool) -> dict[str, Any]:
    """Everything that the table shows."""
    holder, votes = pool.holder()
    ranking = pool.ranking()
    return {
        "pool": pool.label or None,
        "forging": [name for name in ordered(pool) if pool.forging(name)],
        "should_forge": ranking[0].name if ranking else None,
        "conflict": list(pool.conflict()),
        "older_manager": [name for name in ordered(pool) if pool.older(name)],
        "clusters": [cluster_json(pool, name) for name in ordered(pool)],
        "lock": {
            "name": f"cardano-pool-{pool.label}" if pool.label else None,
            "holder": holder or None,
            "said_by": votes,
            "of": pool.count,
            "token": pool.token,
            "paused": pool.paused or None,
            "sets_differ": pool.sets_differ,
        },
        "members": [
            {
                "name": member.name,
                "answers": member.answers,
                "problem": member.problem or member.leaders_problem or None,
                "holder": member.lock.record.holder if member.lock is not None else None,
                "stands": member.lock.stands(pool.wall_s) if member.lock is not None else False,
                "token": member.lock.record.transitions if member.lock is not None else None,
                "renewed_at": utc(member.lock.renewed_at) if member.lock and member.lock.renewed_at else None,
            }
            for member in pool.members
        ],
    }


def cluster_json(pool: Pool, name: str) -> dict[str, Any]:
    """One cluster.  Nothing of its health check but what came of it."""
    known = pool.clusters[name]
    judged, status = known.judged, known.status
    spec, health = judged.spec, status.get("healthStatus")
    healthy = health.get("healthy") if isinstance(health, dict) else None
    ready = condition_of(status, READY).get("status")
    override = spec.acting_override(pool.wall_s) if spec is not None else Override()
    return {
        "name": name,
        "region": judged.region,
        "state": str(spec.effective_state(pool.wall_s)) if spec is not None else None,
        "priority": judged.priority(pool.wall_s),
        "ready": None if ready not in ("True", "False") or pool.silent(name) else ready == "True",
        "healthy": healthy if isinstance(healthy, bool) and not pool.silent(name) else None,
        "leader": judged.leader or None,
        "forging": pool.forging(name),
        "eligible": not pool.against(name),
        "why_not": pool.against(name) or None,
        "unreadable": known.unreadable or None,
        "reason": text_of(status, "message") or text_of(status, "reason"),
        "override": None
        if not override.enabled
        else {
            "force_state": str(override.force_state) if override.force_state else None,
            "force_priority": override.force_priority,
            "expires_at": utc(override.expires_at) if override.expires_at is not None else None,
            "reason": override.reason,
        },
        "token": status.get("fencingToken") if type(status.get("fencingToken")) is int else None,
        "said_seconds_ago": None if known.said_at is None else round(max(pool.wall_s - known.said_at, 0), 1),
        "last_transition": text_of(status, "lastTransition") or None,
    }
