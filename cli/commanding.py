"""`forgectl disable`, `enable` and `override`: what an operator says of a cluster, as one merge patch."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from cli.asking import Failed, Misused, printable
from cli.coordination import Pool, refused, with_pool
from cli.pool import cluster_json, override_text
from cli.wording import span, utc
from config import Config
from kube.forge_clusters import PLURAL, ForgeCluster
from kube.session import Json
from policy.arbitration import Cluster, ForgeState, Override, rank

NO_OVERRIDE: Final[Json] = {
    "enabled": False,
    "reason": None,
    "expiresAt": None,
    "forcePriority": None,
    "forceState": None,
}


@dataclass(frozen=True, slots=True)
class Done:
    """One write."""

    cluster: str
    text: str
    member: str
    kubectl: str
    before: str
    """What held of the cluster until then."""
    ended_by: str
    """The command that ends it; empty: there is no one."""
    unread: str = ""
    """Why it does not count, or not all of it, and what to do; empty: it does."""

    def as_json(self) -> dict[str, Any]:
        shown = {"cluster": self.cluster, "did": self.text, "written_on": self.member, "kubectl": self.kubectl}
        return shown | {"before": self.before, "ended_by": self.ended_by or None, "unread": self.unread or None}


def disable(config: Config, arguments: argparse.Namespace) -> None:
    async def work(pool: Pool) -> None:
        name = pool.find(arguments.cluster)
        confirm(pool, name, yes=arguments.yes)
        if arguments.seconds is not None:
            expires_at = expiry(arguments.seconds)
            body = override_of(arguments.reason, expires_at, state="Disabled")
            done = await write(pool, name, {"override": body}, f"{name} is Disabled until {utc(expires_at)}")
            tell(done, arguments, expiring(pool, name, body, expires_at))
            return
        spec: Json = {"forgeState": "Disabled"}
        text = f"{name} is Disabled until it is enabled"
        acting = _acting(pool, name)
        if acting.force_state is not None:  # it would stand above forgeState
            spec["override"] = NO_OVERRIDE
            text += f", its override ({acting.force_state}) is ended"
        if arguments.reason and not (acting.enabled and acting.force_state is None):
            spec["override"] = {**NO_OVERRIDE, "reason": arguments.reason}
        tell(await write(pool, name, spec, text), arguments)

    with_pool(config, arguments, work)


def enable(config: Config, arguments: argparse.Namespace) -> None:
    async def work(pool: Pool) -> None:
        name = pool.find(arguments.cluster)
        state = ForgeState.ENABLED if arguments.force else ForgeState.PRIORITY_BASED
        others = [other for other in enabled(pool) if other != name]
        spec = {"forgeState": str(state), "override": NO_OVERRIDE}
        done = await write(pool, name, spec, f"{name} is {state}, without an override")
        warnings = [f"{', '.join(others)} is Enabled too: a conflict"] if arguments.force and others else []
        tell(done, arguments, warnings=warnings)

    with_pool(config, arguments, work)


def override(config: Config, arguments: argparse.Namespace) -> None:
    given = arguments.priority is not None or arguments.state is not None
    if arguments.clear and (given or arguments.seconds is not None):
        raise Misused("--clear goes with no other of --priority, --state and --for")
    if not arguments.clear and not (given and arguments.seconds is not None and arguments.reason):
        raise Misused("override needs --priority or --state (or both), --for DURATION and --reason TEXT; or --clear")

    async def work(pool: Pool) -> None:
        name = pool.find(arguments.cluster)
        if arguments.clear:
            tell(await write(pool, name, {"override": NO_OVERRIDE}, f"{name} has no override any more"), arguments)
            return
        if arguments.state == "Disabled":
            confirm(pool, name, yes=arguments.yes)
        expires_at = expiry(arguments.seconds)
        body = override_of(arguments.reason, expires_at, state=arguments.state, priority=arguments.priority)
        others = [other for other in enabled(pool) if other != name]
        parts = [arguments.state or "", f"priority {arguments.priority}" if arguments.priority is not None else ""]
        text = f"{name} has {', '.join(filter(None, parts))} until {utc(expires_at)}"
        done = await write(pool, name, {"override": body}, text)
        warnings = (
            [f"{', '.join(others)} is Enabled too: a conflict"] if arguments.state == "Enabled" and others else []
        )
        tell(done, arguments, expiring(pool, name, body, expires_at), warnings=warnings)

    with_pool(config, arguments, work)


# --- what they share ---


def expiry(seconds: float) -> float:
    """The end of an override that begins now, whole seconds since 1970."""
    return float(math.ceil(time.time() + seconds))


def override_of(reason: str, expires_at: float, *, state: str | None = None, priority: int | None = None) -> Json:
    """spec.override, whole: nothing of an earlier one is left."""
    return {
        "enabled": True,
        "reason": reason or None,
        "expiresAt": utc(expires_at),
        "forcePriority": priority,
        "forceState": state,
    }


def enabled(pool: Pool) -> list[str]:
    """The clusters that are Enabled now, by their spec or an override."""
    specs = [(name, known.judged.spec) for name, known in pool.clusters.items()]
    return [name for name, spec in specs if spec and spec.effective_state(pool.wall_s) is ForgeState.ENABLED]


def _acting(pool: Pool, name: str) -> Override:
    spec = pool.clusters[name].judged.spec
    return spec.acting_override(pool.wall_s) if spec is not None else Override()


def confirm(pool: Pool, name: str, *, yes: bool) -> None:
    """Ask before the last cluster that could forge is disabled, if there is somebody to ask.  Raises Failed."""
    ranking = [cluster.name for cluster in pool.ranking()]
    if yes or ranking != [name]:
        return
    warning = printable(f"{name} is the only cluster that could forge now: without it nobody forges{pool.unheard()}.")
    if not sys.stdin.isatty():
        print(f"forgectl: {warning}", file=sys.stderr)
        return
    print(f"{warning} Disable it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("nothing was changed")


async def write(pool: Pool, name: str, spec: Json, text: str) -> Done:
    """Patch the spec.  Raises Failed.  `text`: what holds then, if the object can be read as a whole."""
    body, before = {"spec": spec}, _held(pool, name)
    member, after = await pool.patch(name, body)
    kind = f"{PLURAL}.{pool.config.crd_group}"
    patch = json.dumps(body, separators=(",", ":"))
    words = ("patch", kind, name, "--type", "merge", "--field-manager", "forgectl", "--patch", patch)
    kubectl = member.place.same_by(*words)
    if unread := _unread(pool, after):
        edit = member.place.same_by("edit", kind, name)
        unread = (
            f"{name} cannot be read as a whole: {unread.removesuffix('.')}. What was read last stays in force, but for "
            f"Disabled, which counts by itself; mend that field: {edit}"
        )
        text = f"not in force as a whole yet: {text}"
    where = f" (written on {member.name}"
    if len(pool.members) > 1:
        carried = "; the arbiters carry it to the others"
        where += "; its arbiter is silent, so nobody carries it to the others" if pool.silent(name) else carried
    ended_by = ""
    if spec.get("forgeState") == "Disabled":
        ended_by = f"forgectl enable {name}"
    elif spec.get("override") not in (None, NO_OVERRIDE):
        ended_by = f"forgectl override {name} --clear"
    return Done(name, f"{text}{where})", member.name, kubectl, before, ended_by, unread)


def _held(pool: Pool, name: str) -> str:
    """State and override of a cluster, by what was read last."""
    shown = cluster_json(pool, name)
    state = shown["state"] or "not known"
    return state if shown["override"] is None else f"{state}, {override_text(shown['override'])}"


def _unread(pool: Pool, after: ForgeCluster) -> str:
    """What cannot be read of a copy that was just written; empty: nothing.

    The leading pod has not judged it yet.  If it could not read what all can be read here (it is of another version),
    it hardly can now; what could not be read here either is mended by the write, or is another copy's, over which the
    written one is carried.
    """
    return after.unreadable or ("" if pool.unreadable(after.name) else refused(pool.clusters[after.name].status))


def expiring(pool: Pool, name: str, body: Json, expires_at: float) -> str:
    """Who comes first when an override of this cluster ends, by what is known now."""
    end = f"at {utc(expires_at)} the override ends"
    best = ranked_after(pool, name, expires_at)
    if not best:
        return f"{end}; by what is known now nobody can forge then"
    first = best[0]
    assert first.spec is not None
    state, priority = first.spec.effective_state(expires_at), first.priority(expires_at)
    still = " still" if first.name == name and body.get("forceState") == "Enabled" else ""
    return f"{end} (in {span(expires_at - pool.wall_s)}); {first.name}{still} comes first then ({state}, {priority})"


def ranked_after(pool: Pool, name: str, expires_at: float) -> tuple[Cluster, ...]:
    """The ranking at the instant at which this cluster's new override has ended."""
    clusters = [
        dataclasses.replace(one, spec=dataclasses.replace(one.spec, override=Override()))
        if one.name == name and one.spec is not None
        else one
        for one in pool.judged()
    ]
    return rank(clusters, pool.read_at, expires_at)


def tell(done: Done, arguments: argparse.Namespace, then: str = "", *, warnings: list[str] | None = None) -> None:
    """Say what was done.  Raises Failed where it does not count as a whole."""
    if arguments.json:
        print(json.dumps(done.as_json() | {"then": then or None, "warnings": warnings or []}, indent=2))
    else:
        print(printable(done.text))
        print(f"the same by: {printable(done.kubectl)}")
        print(printable(f"before: {done.before}"))
        if then:
            print(printable(then))
        if done.ended_by:
            print(printable(f"to end it: {done.ended_by}"))
        for warning in warnings or []:
            print(f"forgectl: {printable(warning)}", file=sys.stderr)
    if done.unread:
        sys.stdout.flush()
        raise Failed(done.unread, told=True)
