"""`forgectl pause` and `resume`: nothing is handed or taken over by itself for a while (`policy.pause`).

They write one annotation: with cluster management on the pool-wide lock, on every coordination API that answers; else,
or with --lease, on the Lease of the election.  The fence and all deadlines hold in a pause as ever.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from cli.asking import Failed, Misused, NobodyAnswers, printable
from cli.coordination import TIMEOUT_S, Member, items_of, opened
from cli.where import Place, Wanted, places, wanted
from config import Config
from config.variables import OWN
from kube.errors import ANSWERS, ApiFailure
from kube.leases import LeaseClient
from policy.election import pod_of
from policy.lease import LeaseRecord
from policy.pause import ANNOTATION, Pause, acting, as_text
from policy.pool_lock import cluster_of

ATTEMPTS: Final = 5
"""Its holder writes the Lease, too."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Which Lease, on which servers."""

    lease: str
    members: tuple[Member, ...]
    pool: bool
    """It is the pool-wide lock."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    place: Place
    record: LeaseRecord | None
    problem: str = ""
    before: Pause | None = None
    """What was in force when it was written."""


def pause(config: Config, arguments: argparse.Namespace) -> None:
    until = None if arguments.seconds is None else time.time() + arguments.seconds
    asked = Pause(until, arguments.reason)
    _command(config, arguments, as_text(asked), asked)


def resume(config: Config, arguments: argparse.Namespace) -> None:
    _command(config, arguments, "", None)


def _command(config: Config, arguments: argparse.Namespace, text: str, asked: Pause | None) -> None:
    with ExitStack() as stack:
        target, outcomes = asyncio.run(_work(config, arguments, text, stack))
    done = [each for each in outcomes if not each.problem]
    if not done:
        why = "; ".join(f"{each.place.name}: {each.problem}" for each in outcomes)
        raise NobodyAnswers(f"{target.lease} could not be written: {why}")
    kept_for = _kept_for(done, pool=target.pool)
    before = next((each.before for each in done if each.before is not None), None)
    if arguments.json:
        shown = {
            "lease": target.lease,
            "pool_wide": target.pool,
            "paused": str(asked) if asked is not None else None,
            "before": str(before) if before is not None else None,
            "stays_with": kept_for or None,
            "written_on": [each.place.name for each in done],
            "failed": {each.place.name: each.problem for each in outcomes if each.problem},
        }
        print(json.dumps(shown, indent=2))
    else:
        print(printable(_sentence(target, asked, before, kept_for)))
        word = f"{ANNOTATION}={text}" if text else f"{ANNOTATION}-"
        for each in done:
            line = each.place.same_by("annotate", "--overwrite", "lease", target.lease, word)
            print(printable(f"the same by: {line}"))
    late = [f"{each.place.name}: {each.problem}" for each in outcomes if each.problem]
    told = [each.record.members for each in done if each.record is not None] if target.pool else []
    count = max([len(outcomes), *told])
    if len(done) < count:
        if unnamed := count - len(outcomes):
            late.append(
                f"{unnamed} that the lock's holder counts too {'was' if unnamed == 1 else 'were'} not named here"
            )
        if 2 * len(done) > count:
            holds = "which is a majority and counts"
        elif 2 * len(done) == count and asked is not None:  # `policy.pause.of_members`: of two, who paused is heard
            holds = "which is half of them and counts"
        else:
            holds = "which is no majority, and counts for nothing"
        raise Failed(f"written on {len(done)} of {count} coordination APIs, {holds}: {'; '.join(late)}", told=True)


def _sentence(target: _Target, asked: Pause | None, before: Pause | None, kept_for: str) -> str:
    what = "the pool-wide lock" if target.pool else f"the lease {target.lease}"
    if asked is None and before is None:
        return f"{what} was not paused: whoever may take over does, as before"
    if asked is None:
        return f"{what} is not paused any more: whoever may take over does. It was paused {before}"
    instead = f" It was paused {before}." if before not in (None, asked) else ""
    if not kept_for:
        return f"{what} is paused {asked}.{instead} Nobody has it now: the next who takes it keeps it"
    whom = f"cluster {kept_for}" if target.pool else kept_for
    return (
        f"{what} is paused {asked}.{instead} It stays with {whom}; should that fail, nobody takes over before the "
        "pause ends (`forgectl resume`)"
    )


def _kept_for(done: list[_Outcome], *, pool: bool) -> str:
    """Whom most of the written Leases name; empty: nobody."""
    names = [each.record.kept_for(cluster_of if pool else pod_of) for each in done if each.record is not None]
    return max(names, key=names.count, default="")


async def _work(
    config: Config, arguments: argparse.Namespace, text: str, stack: ExitStack
) -> tuple[_Target, list[_Outcome]]:
    found, about = places(config, arguments, os.environ.get("KUBECONFIG", ""), stack), wanted(config, arguments)
    async with opened(config, found, about) as pool:
        target = await _target(config, arguments, about, tuple(pool.members))
        return target, list(await asyncio.gather(*(_write(target.lease, member, text) for member in target.members)))


async def _target(config: Config, arguments: argparse.Namespace, about: Wanted, members: tuple[Member, ...]) -> _Target:
    """By the options, else by an environment that is a pod's, else by what is there.

    Raises Misused where it is not clear which Lease is meant.
    """
    if arguments.lease:
        return _Target(arguments.lease, _here(config, arguments, members), pool=False)
    if not (arguments.pool or arguments.network):
        if config.enable_cluster_management:
            return _Target(config.pool_lock_name, members, pool=True)
        if config.explicit & {"LEASE_NAME", "POD_NAME"}:
            return _Target(config.lease_name, _here(config, arguments, members), pool=False)
    return await _looked_for(config, arguments, about, members)


def _here(config: Config, arguments: argparse.Namespace, members: tuple[Member, ...]) -> tuple[Member, ...]:
    """Where the election's Lease is: on the pod's own API server, whatever coordination APIs there are besides."""
    own = next((member for member in members if member.name == OWN.name), None)
    if own is None:
        return members[:1]
    if arguments.namespace:
        return (own,)
    return (dataclasses.replace(own, place=dataclasses.replace(own.place, namespace=config.namespace)),)


async def _looked_for(
    config: Config, arguments: argparse.Namespace, about: Wanted, members: tuple[Member, ...]
) -> _Target:
    """From a laptop nothing is known but what is there: a pool-wide lock, else an election's Lease."""
    names: dict[str, list[Member]] = defaultdict(list)
    why = []
    for member in members:
        if member.session is None:
            why.append(f"{member.name}: {member.problem}")
            continue
        folder = f"/apis/coordination.k8s.io/v1/namespaces/{member.place.namespace}/leases"
        try:
            items = items_of(await member.session.request("list", folder, timeout_s=TIMEOUT_S))
        except ApiFailure as failure:
            why.append(f"{member.name}: {failure}")
            continue
        for name in {str(item.get("metadata", {}).get("name", "")) for item in items}:
            names[name].append(member)
    silent = f" (not asked: {'; '.join(why)})" if why else ""
    for prefix, pool in (("cardano-pool-", True), ("cardano-leader-", False)):
        wished = {f"{prefix}{label}" for label in about.labels}
        there = sorted(name for name in names if name.startswith(prefix) and (not wished or name in wished))
        if len(there) > 1:
            raise Misused(
                f"several pools are there: {', '.join(there)}; choose one by --network and --pool, or --lease"
            )
        if not there:
            continue
        lease = there[0]
        if pool:
            return _Target(lease, members, pool=True)
        if why:
            # whoever is silent may know a lock of the whole pool, beside which this Lease decides nothing
            raise NobodyAnswers(f"whether the lease {lease} is the one could not be seen{silent}; name it by --lease")
        if len(names[lease]) > 1:
            on = ", ".join(member.name for member in names[lease])
            raise Misused(f"the lease {lease} is on several: {on}; choose one by --context or --kubeconfig")
        return _Target(lease, tuple(names[lease]), pool=False)
    # A lease of the usual name says nothing of its pool.
    if config.lease_name in names and not about.pools and not arguments.network:
        return _Target(config.lease_name, tuple(names[config.lease_name][:1]), pool=False)
    if why and not names:
        raise NobodyAnswers(f"no Lease could be looked for: {'; '.join(why)}")
    which = f" of {' or '.join(about.labels)}" if len(about.labels) == 1 else " of a forge manager"
    raise Failed(f"no Lease{which} is there{silent}; name it by --lease, or another --namespace")


async def _write(lease: str, member: Member, text: str) -> _Outcome:
    if member.session is None:
        return _Outcome(member.place, None, member.problem)
    leases = LeaseClient(member.session, member.place.namespace, lease)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            record, _ = await leases.look(timeout_s=TIMEOUT_S)
            if record is None:
                return _Outcome(member.place, None, f"there is no Lease {lease}: a pod makes it when it first leads")
            before = acting(record.paused, time.time())
            if record.paused != text:
                record = await leases.annotate(record, {ANNOTATION: text}, timeout_s=TIMEOUT_S)
        except ApiFailure as failure:
            if failure.kind in ANSWERS and attempt < ATTEMPTS:
                continue  # its holder wrote in between
            return _Outcome(member.place, None, str(failure))
        return _Outcome(member.place, record, before=before)
    raise AssertionError("the last attempt returns")
