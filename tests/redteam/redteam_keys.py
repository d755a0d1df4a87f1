"""What a worker gone bad does with its key: it publishes what it likes, and writes the Lease as it likes.

Runs inside the elector or the arbiter, in its own event loop, with its own sockets and its own session.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import back_door

from ipc.messages import ArbiterState, ElectorState, Grant, Role
from kernel.clock import boottime_ns

SECOND = 1_000_000_000
WEEK = 7 * 86400 * SECOND
EVERY_S = 0.5
TO_ANYBODY = "as a release to whoever is first"


def forge(argument: dict[str, Any]) -> str:
    """From now on this worker says that it grants a week, again and again; the honest code is not heard any more."""
    context = back_door.KEPT["context"]
    publish = context.publish
    context.publish = lambda body: None
    make = _elector_state if argument["worker"] == "elector" else _arbiter_state
    _begin(_again(lambda: publish(make(argument["holder"]))))
    return "begun"


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
    fields = {name: getattr(old[-1], name) for name in ArbiterState.__slots__} if old else {"cluster_management": False}
    return ArbiterState(**{**fields, "grant": _grant(holder), "reason": "forged"})


def rob(argument: dict[str, Any]) -> str:
    """Write the Lease with this worker's own session until it stays written, and then keep it."""
    elector = next((o for o in gc.get_objects() if type(o).__name__ == "Elector"), None)
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
    how, holder = argument["how"], argument["holder"]
    if how == "in a term of its own":
        await _write(session, path, holder, more=1)
    elif how == "in the term that goes on":
        await _write(session, path, holder, more=0)
    elif how == "after a release in the leader's name":
        await _write(session, path, "", more=0, duration=1, key="it does not know it")
        await _write(session, path, holder, more=1)
    elif how == "after a release without a seal":
        await _write(session, path, "", more=0, duration=1, seal=False)
        await _write(session, path, holder, more=1)
    elif how == TO_ANYBODY:
        await _write(session, path, "", more=0, duration=1, seal=False)
        back_door.keep("robbed", how)
        return
    back_door.keep("robbed", how)
    while True:
        await asyncio.sleep(EVERY_S)
        await _write(session, path, holder, more=0)


async def _write(
    session: Any, path: str, holder: str, *, more: int, duration: int | None = None, key: str = "", seal: bool = True
) -> None:
    """One PUT that succeeds, however often the leader was faster."""
    from kube.errors import ApiFailure

    while True:
        lease = await session.request("get", path, timeout_s=3)
        spec, annotations = lease["spec"], lease["metadata"].setdefault("annotations", {})
        spec["holderIdentity"] = holder
        spec["leaseTransitions"] = int(spec.get("leaseTransitions", 0)) + more
        if duration is not None:
            spec["leaseDurationSeconds"] = duration
        elif holder:
            spec["leaseDurationSeconds"] = 6
        if key:
            annotations["cardano.io/lease-key"] = key
        if not seal:
            annotations.clear()
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
    for subscription in back_door.KEPT["context"]._subscriptions:
        state = subscription.last()
        if str(subscription.worker) == worker and state is not None:
            return str(state.body.reason)
    return ""


def stop_renewing(argument: object) -> str:
    """The honest election makes no more requests."""
    elector = next(o for o in gc.get_objects() if type(o).__name__ == "Elector")
    elector._carry_out = _nothing
    return "stopped"
