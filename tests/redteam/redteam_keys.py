"""What a worker gone bad does with its key: it publishes what it likes, and writes the Lease as it likes.

Runs inside the elector or the arbiter, in its own event loop, with its own sockets and its own session.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from typing import Any

import back_door

from ipc.messages import ArbiterState, ElectorState, Grant, Role
from kernel.clock import boottime_ns
from policy.seal import half_of, joined, seal_of

SECOND = 1_000_000_000
WEEK = 7 * 86400 * SECOND
EVERY_S = 0.5
LEASE_S = 6
KEY = "a key of its own"
TO_ANYBODY = "as a release to whoever is first"
OWN_RELEASE = "as a release that its own seal opens"


def forge(argument: dict[str, Any]) -> str:
    """From now on this worker says that it grants a week, again and again; the honest code is not heard any more."""
    context = back_door.KEPT["context"]
    publish = context.publish
    context.publish = lambda body: None
    make = _elector_state if argument["worker"] == "elector" else _arbiter_state
    _begin(_again(lambda: publish(make(_identity()))))
    return "begun"


def _identity() -> str:
    """Our pod's, as its arbiter would know it."""
    elector = _elector()
    if elector is not None:
        return str(elector._election.identity)
    return next((state.body.identity for state in _heard() if isinstance(state.body, ElectorState)), "evil")


def _challenge() -> str:
    """What our pod's arbiter would have the elector write into the Lease now."""
    said = _arbiter_says()
    return said.challenge if said is not None else ""


def _seal() -> str:
    """Of a term of its own, as its arbiter would know it."""
    said = _arbiter_says()
    return joined(half_of(KEY), said.half if said is not None else "")


def _arbiter_says() -> ArbiterState | None:
    """The latest word: heard, or, in the arbiter itself, the last one made."""
    heard = [state.body for state in _heard() if type(state.body) is ArbiterState]
    made = heard or [o for o in gc.get_objects() if type(o) is ArbiterState]
    return max(made, key=lambda said: said.challenged_at, default=None)


def _elector() -> Any:
    return next((o for o in gc.get_objects() if type(o).__name__ == "Elector"), None)


def _heard() -> list[Any]:
    followed = back_door.KEPT["context"]._subscriptions
    return [state for state in (each.last() for each in followed) if state is not None]


async def _again(do: Any) -> None:
    while True:
        do()
        await asyncio.sleep(EVERY_S)


def _grant(holder: str) -> Grant:
    now = boottime_ns()
    return Grant(holder, 99, now + WEEK, now, exclusive=True)


def _elector_state(holder: str) -> ElectorState:
    return ElectorState(
        role=Role.LEADER,
        since=boottime_ns(),
        reason="forged",
        identity=holder,
        lease="cardano/cardano-node-leader",
        holder=holder,
        fencing_token=99,
        grant=_grant(holder),
        settled=True,
        changes_total=1,
        requests_total={},
        failures_total=0,
        api_ok=True,
        standing_down_until=0,
    )


def _arbiter_state(holder: str) -> ArbiterState:
    old = [o for o in gc.get_objects() if type(o) is ArbiterState]
    return dataclasses.replace(old[-1], grant=_grant(holder), reason="forged")


def rob(argument: dict[str, Any]) -> str:
    """Write the Lease with this worker's own session until it stays written, and then keep it."""
    elector = _elector()
    if elector is not None and argument["how"] != TO_ANYBODY:
        elector._carry_out = _nothing
    session = next(o for o in gc.get_objects() if type(o).__name__ == "ApiSession")
    _begin(_rob(session, argument))
    return "begun"


async def _nothing(step: object) -> None:
    await asyncio.sleep(EVERY_S)


async def _rob(session: Any, argument: dict[str, Any]) -> None:
    folder = f"/apis/coordination.k8s.io/v1/namespaces/{argument['namespace']}/leases"
    path = f"{folder}/{argument['lease']}"
    how, holder = argument["how"], _identity()
    if how == "in a term of its own":
        await _write(session, path, holder, more=1)
    elif how == "in a term that its pod once held":
        await _write(session, path, holder, term=argument["term"])
    elif how == "in the term that goes on":
        await _write(session, path, holder, more=0)
    elif how == "after a release with a seal of its own":
        await _write(session, path, "", more=0, duration=1, key=KEY, own_seal=True)
        await _write(session, path, holder, more=1)
    elif how == "after another has been named":
        await _write(session, path, "nobody_12345678", more=1, own_seal=True)
        await _write(session, path, "", more=0, duration=1, key=KEY, own_seal=True)
        await _write(session, path, holder, more=1)
    elif how == TO_ANYBODY:
        await _write(session, path, "", more=0, duration=1, seal=False)
    elif how == OWN_RELEASE:
        await _write(session, path, "", more=0, duration=1, key=KEY, own_seal=True)
    if how in (TO_ANYBODY, OWN_RELEASE):
        back_door.keep("robbed", how)
        return
    back_door.keep("robbed", how)
    while True:
        await asyncio.sleep(EVERY_S)
        await _write(session, path, holder, more=0)


async def _write(
    session: Any,
    path: str,
    holder: str,
    *,
    more: int = 0,
    term: int | None = None,
    duration: int | None = None,
    key: str = "",
    seal: bool = True,
    own_seal: bool = False,
) -> None:
    """One PUT that succeeds, however often the leader was faster."""
    from kube.errors import ApiFailure

    while True:
        lease = await session.request("get", path, timeout_s=3)
        spec, annotations = lease["spec"], lease["metadata"].setdefault("annotations", {})
        spec["holderIdentity"] = holder
        spec["leaseTransitions"] = int(spec.get("leaseTransitions", 0)) + more if term is None else term
        if duration is not None:
            spec["leaseDurationSeconds"] = duration
        elif holder:
            spec["leaseDurationSeconds"] = LEASE_S
        if not seal:
            annotations.clear()
        if own_seal:
            annotations["cardano.io/lease-seal"] = seal_of(KEY)
        if key:
            annotations["cardano.io/lease-key"] = key
        if holder:
            annotations["cardano.io/lease-challenge"] = _challenge()
            if not own_seal:
                annotations["cardano.io/lease-seal"] = _seal()
        try:
            await session.request("update", path, body=lease, timeout_s=3)
        except ApiFailure:
            await asyncio.sleep(0.02)
        else:
            return


def robbed(argument: object) -> bool:
    """Whether it wrote the Lease.  Raises what went wrong."""
    for task in back_door.KEPT.get("tasks", []):
        if task.done():
            task.result()
    return "robbed" in back_door.KEPT


def _begin(work: Any) -> None:
    tasks = back_door.KEPT.setdefault("tasks", [])
    tasks.append(asyncio.get_running_loop().create_task(work, name="gone bad"))


def heard(worker: str) -> str:
    """What the worker that this runs in last heard from another one, as the reason that it gave."""
    return next((str(state.body.reason) for state in _heard() if str(state.worker) == worker), "")


def ask_for_the_key(argument: object) -> str:
    """The leader's elector says that it wants to let go, and between two such words that it grants.

    Until its arbiter gives its half of the key away; then it grants again.
    """
    elector, publish = _elector(), back_door.KEPT["context"].publish
    elector._carry_out = _nothing
    back_door.KEPT["context"].publish = lambda body: None
    _begin(_ask(elector._half_in_lease(), publish))
    back_door.keep("publish", publish)
    return "begun"


async def _ask(half: str, publish: Any) -> None:
    granting = _elector_state(_identity())
    while True:
        publish(dataclasses.replace(granting, letting_go=half, grant=None, role=Role.HANDOVER))
        await asyncio.sleep(0.002)
        publish(dataclasses.replace(granting, letting_go=half))
        await asyncio.sleep(0.002)
        said = _arbiter_says()
        if said is not None and said.given_away and half_of(said.given_away) == half:
            publish(granting)
            back_door.keep("robbed", "asked")
            return


def grant_on(argument: object) -> str:
    """It grants, whatever it does to the Lease."""
    context = back_door.KEPT["context"]
    publish = back_door.KEPT.get("publish", context.publish)
    context.publish = lambda body: None
    _elector()._carry_out = _nothing
    _begin(_again(lambda: publish(_elector_state(_identity()))))
    return "begun"


def release(argument: object) -> str:
    """In due form, with all that it knows of the key."""
    _begin(_release(_elector()))
    return "begun"


async def _release(elector: Any) -> None:
    known, _ = await elector._leases.look(timeout_s=3)
    said = _arbiter_says()
    key = joined(elector._key, said.given_away if said is not None else "")
    await elector._leases.release(known, timeout_s=3, seal=known.seal, key=key)


def stop_renewing(argument: object) -> str:
    """The honest election makes no more requests."""
    _elector()._carry_out = _nothing
    return "stopped"
