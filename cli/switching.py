"""`forgectl switchover`: make a cluster forge now, and wait until it says that it does."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Final

from cli.asking import Failed, NobodyAnswers, printable
from cli.commanding import Done, enabled, expiring, expiry, override_of, tell, write
from cli.coordination import Member, Pool, with_pool
from cli.wording import text_of, utc
from config import Config
from policy.pool_lock import cluster_of

POLL_S: Final = 0.25


def command(config: Config, arguments: argparse.Namespace) -> None:
    """Raises Failed where it is refused or not in time."""

    async def work(pool: Pool) -> None:
        name = pool.find(arguments.cluster)
        _refuse(pool, name, force=arguments.force)
        already = pool.forging(name)
        expires_at = expiry(arguments.seconds)
        body = override_of(arguments.reason, expires_at, state="Enabled")
        then = expiring(pool, name, body, expires_at)
        stale = {member.name for member in pool.members if _says_forging(member, name)}
        began = time.monotonic()
        done = await write(pool, name, {"override": body}, f"{name} comes first until {utc(expires_at)}")
        if not arguments.json or done.unread:
            tell(done, arguments, then)  # whose end it is where nothing will come of it
        took = 0.0 if already else None
        if arguments.wait and took is None:
            took = await _wait(pool, name, stale, began, arguments.timeout)
        _tell_end(pool, name, arguments, done, then, took, already=already)

    with_pool(config, arguments, work)


def _refuse(pool: Pool, name: str, *, force: bool) -> None:
    """Raises Failed where it would not do what is wanted."""
    if others := [other for other in enabled(pool) if other != name]:
        one = others[0]
        raise Failed(
            f"{', '.join(others)} is Enabled already; end that first: forgectl enable {one} (by its priority again, "
            "without an override)"
        )
    if (against := pool.against(name)) and not force:
        raise Failed(f"{name} could not forge: {against}; --force to do it all the same")


def _says_forging(member: Member, name: str) -> bool:
    return any(one.name == name and one.status.get("forgingEnabled") is True for one in member.clusters)


async def _wait(pool: Pool, name: str, stale: set[str], began: float, timeout_s: float) -> float | None:
    """Seconds until the cluster said that it forges; None: it did not in time.

    stale: members that said so before, while the newest word was another.
    """
    shown = sys.stderr.isatty() and sys.stdout.isatty()
    asked = [member for member in pool.members if member.answers]
    took = None
    while took is None and time.monotonic() - began < timeout_s:
        try:
            await pool.read(asked)
        except NobodyAnswers:
            await asyncio.sleep(POLL_S)
            continue
        if name in pool.clusters:
            said = any(member.name not in stale and _says_forging(member, name) for member in pool.members)
            if said or pool.forging(name):
                took = time.monotonic() - began
                break
            if shown:
                told = printable(text_of(pool.clusters[name].status, "message"))[:60]
                print(f"\r\x1b[K{time.monotonic() - began:.0f} s: {name}: {told}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(POLL_S)
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return took


def _tell_end(
    pool: Pool, name: str, arguments: argparse.Namespace, done: Done, then: str, took: float | None, *, already: bool
) -> None:
    """Raises Failed unless it forges, or was not to be waited for."""
    late = took is None and arguments.wait
    held_up = _held_up(pool, name) if late else []
    if arguments.json:
        shown = {"then": then, "forging": took is not None, "took_s": None if took is None else round(took, 2)}
        print(json.dumps(done.as_json() | shown | {"held_up_by": held_up}, indent=2))
    elif already:
        print(printable(f"{name} forges already"))
    elif took is not None:
        print(printable(f"{name} forges, after {took:.1f} s"))
    if late:
        sys.stdout.flush()
        raise Failed(
            f"{name} does not say that it forges after {arguments.timeout:g} s: {'; '.join(held_up)}. The override "
            f"stands; forgectl override {name} --clear ends it",
            told=True,
        )


def _held_up(pool: Pool, name: str) -> list[str]:
    """What stands in the way, by what was read last."""
    known = pool.clusters.get(name)
    if known is None:
        return ["its CardanoForgeCluster is not there any more"]
    found = []
    if against := pool.against(name):
        found.append(against)
    elif text_of(known.status, "effectiveState") != "Enabled":
        found.append("it has not taken the override over yet")
    if both := pool.conflict():
        found.append(f"Enabled at once: {', '.join(both)}; the best of them forges")
    if message := text_of(known.status, "message"):
        found.append(f"it says: {message}")
    holder, votes = pool.holder()
    if holder and cluster_of(holder) != name:
        found.append(f"the lock is held by {holder}, say {votes} of {pool.count} coordination APIs")
    found += [f"{member.name}: {member.problem}" for member in pool.members if not member.answers]
    return found or ["nothing that is known"]
