"""`forgectl history`: one time line of what the clusters' events, their statuses and the pool's Lease tell."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cli import lone
from cli.asking import columns, printable
from cli.coordination import TIMEOUT_S, LockSeen, Member, Pool, instant, items_of, with_pool
from cli.wording import text_of, utc
from config import Config
from kube.errors import ApiFailure
from kube.session import Json


@dataclass(frozen=True, slots=True, order=True)
class Happened:
    """One line."""

    at: float
    """Seconds since 1970."""
    about: str
    """A cluster, or the lock."""
    what: str
    text: str
    told_by: str
    """event, status or lease."""


def command(config: Config, arguments: argparse.Namespace) -> None:
    """Print.  A server that tells no events is named on standard error."""

    async def work(pool: Pool) -> None:
        found, problems = await gather(pool) if pool.clusters else await _of_leaders(pool)
        for problem in problems:
            print(f"forgectl: {printable(problem)}", file=sys.stderr)
        shown = found[-arguments.limit :]
        print(json.dumps([_as_json(pool, each) for each in shown], indent=2) if arguments.json else _table(shown))

    with_pool(config, arguments, work)


async def gather(pool: Pool) -> tuple[list[Happened], list[str]]:
    """What is known, oldest first; and what could not be asked."""
    members = [member for member in pool.members if member.answers]
    problems = [f"{member.name} was not asked: {member.problem}" for member in pool.members if not member.answers]
    told = await asyncio.gather(*(_events(pool, member) for member in members))
    found: dict[tuple[int, str, str, str], Happened] = {}
    for member, answer in zip(members, told, strict=True):
        events = answer if isinstance(answer, list) else []
        if isinstance(answer, str):
            problems.append(f"{member.name} tells no events: {answer}")
        for each in [*events, *_transitions(member), *_lock(member)]:
            found.setdefault((int(each.at), each.about, each.what, each.text), each)  # the same on several members
    return sorted(found.values()), problems


async def _of_leaders(pool: Pool) -> tuple[list[Happened], list[str]]:
    """Without clusters: what each CardanoLeader and its Lease say of their last changes."""
    problems = [f"{member.name} was not asked: {member.problem}" for member in pool.members if not member.answers]
    found: set[Happened] = set()
    for each in await lone.leaders(pool):
        conditions = each.status.get("conditions")
        for condition in conditions if isinstance(conditions, list) else []:
            at = instant(condition.get("lastTransitionTime")) if isinstance(condition, dict) else None
            if at is not None:
                what = f"{text_of(condition, 'type')}={text_of(condition, 'status')}"
                found.add(Happened(at, each.name, what, text_of(condition, "message"), "status"))
        if each.seen is not None:
            found.update(_taken(each.lease, each.member, each.seen))
    problems += [f"{member.name}: {member.leaders_problem}" for member in pool.members if member.leaders_problem]
    return sorted(found), problems


async def _events(pool: Pool, member: Member) -> list[Happened] | str:
    """Of the pool's clusters; or why there are none."""
    assert member.session is not None
    folder = f"/api/v1/namespaces/{member.place.namespace}/events"
    query = [("fieldSelector", "involvedObject.kind=CardanoForgeCluster")]
    try:
        raw = await member.session.request("list", folder, query=query, timeout_s=TIMEOUT_S)
    except ApiFailure as failure:
        return str(failure)
    made = [event(item, pool.clusters) for item in items_of(raw)]
    return [each for each in made if each is not None]


def event(raw: Json, clusters: Collection[str]) -> Happened | None:
    """A core/v1 Event; None: it is of none of these clusters, or tells no time."""
    about, series = raw.get("involvedObject"), raw.get("series")
    name = about.get("name") if isinstance(about, dict) else None
    if not isinstance(name, str) or name not in clusters:
        return None
    last = series.get("lastObservedTime") if isinstance(series, dict) else None
    metadata = raw.get("metadata")
    made = metadata.get("creationTimestamp") if isinstance(metadata, dict) else None
    times = (last, raw.get("lastTimestamp"), raw.get("eventTime"), raw.get("firstTimestamp"), made)
    at = next((known for time in times if (known := instant(time)) is not None), None)
    if at is None:
        return None
    count = raw.get("count")
    text = text_of(raw, "message") + (f" (x{count})" if type(count) is int and count > 1 else "")
    return Happened(at, name, text_of(raw, "reason"), text, "event")


def _transitions(member: Member) -> list[Happened]:
    found = []
    for cluster in member.clusters:
        status = cluster.status
        at = instant(status.get("lastTransition"))
        if at is not None:
            forging = "forges" if status.get("forgingEnabled") is True else "does not forge"
            text = (
                f"{forging}: {text_of(status, 'message')}" + f", led by {text_of(status, 'activeLeader') or 'nobody'}"
            )
            found.append(Happened(at, cluster.name, text_of(status, "effectiveState"), text, "status"))
    return found


def _lock(member: Member) -> list[Happened]:
    return _taken("lock", member.name, member.lock) if member.lock is not None else []


def _taken(about: str, member: str, lock: LockSeen) -> list[Happened]:
    if lock.acquired_at is None:
        return []
    record = lock.record
    what, text = ("taken", f"by {record.holder}") if record.holder else ("released", "")
    if record.preferred_holder:
        text = f"{text} left to {record.preferred_holder}".strip()
    return [Happened(lock.acquired_at, about, what, f"{member}: {text} token {record.transitions}", "lease")]


def _as_json(pool: Pool, each: Happened) -> dict[str, Any]:
    return {
        "time": utc(each.at),
        "about": each.about,
        "what": each.what,
        "text": each.text,
        "told_by": each.told_by,
        "pool": pool.label,
    }


def _table(shown: list[Happened]) -> str:
    if not shown:
        return "nothing is known of it"
    return "\n".join(columns([(utc(each.at), each.about, each.what, each.text) for each in shown]))
