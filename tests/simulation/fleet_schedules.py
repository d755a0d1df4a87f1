"""Schedules for a pool of several clusters: a seed makes a fleet, and what happens to it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import tempfile
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

import ipc.complaints
import workers.arbiter
import workers.clusters
import workers.coordination
import workers.elector
import workers.pool_lock
from ipc.messages import Worker
from kube.errors import Failure

from schedules import SilentReporter
from simulated_api import Leases, PathState
from simulated_fleet import Fleet, ForgeClusters, Server
from simulated_pod import WORKERS
from simulated_time import SimulatedLoop, loop_now, wall_s

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""What the workers write down, they write in memory in a pod too."""
FOLLOWERS = {"watch", "follow", "watch /k/a-east", "clusters /k/a-east"}
"""The tasks that watch, of an elector and an arbiter with one coordination API."""
FIRST_S = 60.0
BACK_S = 120.0
HOME_S = 600.0
"""Until the best cluster has forging back after some changes in a row: each doubles its hold-down, up to 16 times."""

Schedule = Callable[[Fleet], Awaitable[None]]

HAND_OVER_S = 1.5
"""The slowest fence of this simulation takes a second."""
LEASE_S = 15.0
UNPLANNED_S = LEASE_S + 1.0 + 1.0
"""Lease duration + 1 s, and a second for the slowest node of this simulation to be armed, or a member to be slow."""
HOLD_DOWN_S = 10.0
SETTLED_S = 32.0
"""After a fault and its repair: two lease durations, in which a hold-down fits."""


# --- faults: each ends with its repair; the bound is for the time without a forger ---


def _region(fleet: Fleet) -> str:
    """Mostly the one that matters."""
    forging = fleet.forging_region()
    return forging if forging and fleet.rng.random() < 0.7 else fleet.rng.choice(fleet.regions)


async def an_api_server_goes_for_long(fleet: Fleet) -> None:
    """Longer than any lease: control planes are upgraded like that."""
    name = _region(fleet)
    fleet.tell(f"the API server of {name} goes")
    fleet.servers[name].stop()
    await asyncio.sleep(fleet.rng.choice([8, 40, 120]))
    fleet.servers[name].start()
    fleet.tell(f"the API server of {name} is back")


async def an_api_server_restarts(fleet: Fleet) -> None:
    name = _region(fleet)
    fleet.tell(f"the API server of {name} restarts")
    fleet.servers[name].stop()
    await asyncio.sleep(fleet.rng.choice([0.2, 2, 5]))
    fleet.servers[name].start()


async def a_region_is_cut_off(fleet: Fleet) -> None:
    """From all the others, but not from its own API server."""
    region = _region(fleet)
    state = fleet.rng.choice([PathState.REFUSED, PathState.HANGING])
    fleet.tell(f"{region} is cut off ({state.value})")
    broken = _cut(fleet, region, state, inwards=True, outwards=True)
    await asyncio.sleep(fleet.rng.choice([5, 20, 45]))
    _mend(broken)
    fleet.tell(f"{region} is connected again")


async def a_region_is_cut_off_one_way(fleet: Fleet) -> None:
    """It sees the others and they do not see it, or the other way round."""
    region, inwards = _region(fleet), fleet.rng.random() < 0.5
    fleet.tell(f"{region} is cut off {'from the others' if not inwards else 'for the others'}")
    broken = _cut(fleet, region, PathState.HANGING, inwards=inwards, outwards=not inwards)
    await asyncio.sleep(fleet.rng.choice([5, 20, 45]))
    _mend(broken)


async def two_halves(fleet: Fleet) -> None:
    """No majority anywhere, if the number of members is even."""
    half = set(fleet.regions[: len(fleet.regions) // 2])
    fleet.tell(f"{sorted(half)} and the others do not see each other")
    broken = []
    for region, pods in fleet.clusters.items():
        for name, server in fleet.servers.items():
            if (region in half) != (name in half):
                broken += [_break(server, pod.name, PathState.REFUSED) for pod in pods]
    await asyncio.sleep(fleet.rng.choice([20, 60]))
    _mend(broken)


async def one_pods_path_breaks(fleet: Fleet) -> None:
    """To one member, or to its own API server."""
    forgers = fleet.forgers()
    pod = forgers[0] if forgers and fleet.rng.random() < 0.7 else fleet.rng.choice(fleet.pods)
    server = fleet.rng.choice(list(fleet.servers.values()))
    state = fleet.rng.choice([PathState.REFUSED, PathState.HANGING, PathState.SLOW])
    fleet.tell(f"{pod.name}: its path to {server.name} is {state.value}")
    broken = [_break(server, pod.name, state)]
    await asyncio.sleep(fleet.rng.choice([1, 8, 30]))
    _mend(broken)


async def a_member_is_restored_from_a_backup(fleet: Fleet) -> None:
    server = fleet.rng.choice(fleet.coordinators)
    restore = server.backup()
    await asyncio.sleep(fleet.rng.choice([0.5, 6, 30]))
    fleet.tell(f"{server.name} is restored from a backup")
    restore()
    await asyncio.sleep(1)


async def a_holder_comes_back_to_a_backup_of_its_own_term(fleet: Fleet) -> None:
    """Another one forges since, for the holder was away longer than a lease; then the only member goes back."""
    server, holder = fleet.coordinators[0], fleet.forgers()[0]
    restore = server.backup()
    await asyncio.sleep(60)
    fleet.tell(f"{holder.name}: all processes are killed")
    holder.kill_all()
    await fleet.until(lambda: bool(fleet.forgers()) and holder not in fleet.forgers(), 60, "another one forges")
    server.stop()
    await asyncio.sleep(1)
    fleet.tell(f"{server.name} is back, from a backup of the time of {holder.name}, who starts again")
    restore()
    server.lock.version += 10**6  # etcdutl: --bump-revision, --mark-compacted
    server.lock.forget()
    await asyncio.sleep(fleet.rng.choice([0.0, 0.0, 1.0, 3.0, 6.0]))
    holder.start_all()
    await asyncio.sleep(60)


async def a_member_answers_stale_reads(fleet: Fleet) -> None:
    server = fleet.rng.choice(fleet.coordinators)
    fleet.tell(f"{server.name} answers reads with what was")
    server.lock.stale = (server.lock.record, server.lock.version)
    server.lock.wake()
    await asyncio.sleep(fleet.rng.choice([3, 20, 40]))
    server.lock.stale = None
    server.lock.wake()


async def the_lock_is_deleted_by_hand(fleet: Fleet) -> None:
    """Or its holder is erased: on one member, or on all."""
    chosen = fleet.rng.choice([fleet.coordinators, [fleet.rng.choice(fleet.coordinators)]])
    for server in chosen:
        record = server.lock.record
        if record is not None and server.up:
            server.lock.write("", None if fleet.rng.random() < 0.5 else dataclasses.replace(record, holder=""))
    await asyncio.sleep(1)


async def an_object_is_deleted(fleet: Fleet) -> None:
    region = _region(fleet)
    for server in fleet.rng.choice([fleet.coordinators, [fleet.rng.choice(fleet.coordinators)]]):
        fleet.tell(f"{region}'s object is deleted on {server.name}")
        server.clusters.delete(fleet.object_name(region))
    await asyncio.sleep(fleet.rng.choice([0.01, 5]))


async def a_spec_is_spoilt(fleet: Fleet) -> None:
    """As an older CRD would let it pass."""
    region = _region(fleet)
    before = {name: fleet.spec(region).get(name) for name in ("priority", "forgeState")}
    fleet.patch(region, {"priority": "high", "forgeState": fleet.rng.choice(["disabled", 7])})
    await asyncio.sleep(fleet.rng.choice([0.01, 5]))
    for server in fleet.coordinators:
        fleet.patch(region, before, on=server.name)


async def a_spoilt_copy_is_out_of_reach_while_the_others_are_edited(fleet: Fleet) -> None:
    region, server = _region(fleet), fleet.rng.choice(fleet.coordinators)
    if len(fleet.coordinators) == 1:
        return
    fleet.patch(region, {"forgeState": 7}, on=server.name)
    await asyncio.sleep(fleet.rng.choice([0.001, 1]))
    server.stop()
    await asyncio.sleep(1)
    fleet.patch(region, {"priority": fleet.rng.randrange(1, 1000)})
    await asyncio.sleep(fleet.rng.choice([2, 20]))
    server.start()


async def all_leaders_die(fleet: Fleet) -> None:
    """At once, their nodes too; they come back after longer than a lease."""
    leaders = [pod for pods in fleet.clusters.values() for pod in pods if pod.leads()]
    fleet.tell(f"die at once: {[pod.name for pod in leaders]}")
    for pod in leaders:
        pod.kill_all()
    await asyncio.sleep(fleet.rng.choice([2, 20]))
    for pod in leaders:
        pod.start_all()
    await asyncio.sleep(1)


async def a_sidecar_dies(fleet: Fleet) -> None:
    pod = (fleet.forgers() or fleet.pods)[0]
    fleet.tell(f"{pod.name}: all its workers die")
    pod.kill_all()
    await asyncio.sleep(fleet.rng.choice([0.3, 8, 20]))
    pod.start_all()
    await asyncio.sleep(1)


async def a_region_dies(fleet: Fleet) -> None:
    """With its API server."""
    region = _region(fleet)
    fleet.tell(f"{region} is gone")
    for pod in fleet.clusters[region]:
        pod.kill_all()
    fleet.servers[region].stop()
    await asyncio.sleep(fleet.rng.choice([20, 90]))
    fleet.servers[region].start()
    for pod in fleet.clusters[region]:
        pod.start_all()
    await asyncio.sleep(1)


async def a_worker_dies(fleet: Fleet) -> None:
    pod = (fleet.forgers() or fleet.pods)[0]
    worker = fleet.rng.choice(WORKERS)
    fleet.tell(f"{pod.name}: the {worker} dies")
    pod.kill(worker)
    await asyncio.sleep(fleet.rng.choice([0.1, 0.3, 1.0]))
    pod.start(worker)


async def workers_die_while_the_own_api_server_is_away(fleet: Fleet) -> None:
    """What a restarted worker would ask it, it cannot."""
    region = _region(fleet)
    fleet.tell(f"the API server of {region} goes")
    fleet.servers[region].stop()
    await asyncio.sleep(fleet.rng.choice([2, 25]))
    for _ in range(3):
        await a_worker_dies(fleet)
        await asyncio.sleep(fleet.rng.uniform(3, 20))
    fleet.servers[region].start()


async def a_forger_is_asked_to_stop(fleet: Fleet) -> None:
    pod = (fleet.forgers() or fleet.pods)[0]
    fleet.tell(f"{pod.name}: asked to stop")
    pod.ask_to_stop()
    await asyncio.sleep(3)
    pod.kill_all()
    pod.start_all()
    await asyncio.sleep(1)


async def a_node_dies(fleet: Fleet) -> None:
    pod = (fleet.forgers() or fleet.pods)[0]
    fleet.tell(f"{pod.name}: its node dies")
    pod.node.set_up(False)
    await asyncio.sleep(fleet.rng.choice([0.2, 4]))
    pod.node.set_up(True)


async def a_cluster_is_disabled_for_a_while(fleet: Fleet) -> None:
    region = _region(fleet)
    fleet.patch(region, {"forgeState": "Disabled"})
    await asyncio.sleep(fleet.rng.choice([0.01, 1, 20]))
    fleet.patch(region, {"forgeState": "Priority-based"})


async def two_people_enable_two_clusters(fleet: Fleet) -> None:
    one, other = fleet.rng.sample(fleet.regions, 2)
    fleet.patch(one, {"forgeState": "Enabled"})
    await asyncio.sleep(fleet.rng.choice([0, 0.001, 0.02]))
    fleet.patch(other, {"forgeState": "Enabled"})
    await asyncio.sleep(fleet.rng.choice([1, 20]))
    for region in (one, other):
        fleet.patch(region, {"forgeState": "Priority-based"})


async def an_override_expires(fleet: Fleet) -> None:
    """It forces another cluster to forge, for some seconds."""
    region = fleet.rng.choice(fleet.regions)
    until = fleet.expiry(fleet.rng.choice([2, 10, 30]))
    override = {"enabled": True, "reason": "a drill", "expiresAt": until, "forceState": "Enabled"}
    fleet.patch(region, {"override": override})
    await asyncio.sleep(fleet.rng.choice([5, 35]))
    fleet.patch(region, {"override": {"enabled": False}})


async def an_override_expires_in_a_partition(fleet: Fleet) -> None:
    region = fleet.rng.choice(fleet.regions)
    override = {"enabled": True, "reason": "a drill", "expiresAt": fleet.expiry(8), "forceState": "Enabled"}
    fleet.patch(region, {"override": override})
    await asyncio.sleep(2)
    broken = _cut(fleet, region, PathState.HANGING, inwards=True, outwards=True)
    await asyncio.sleep(fleet.rng.choice([15, 40]))
    _mend(broken)
    fleet.patch(region, {"override": {"enabled": False}})


async def priorities_change_at_random(fleet: Fleet) -> None:
    for _ in range(20):
        fleet.patch(fleet.rng.choice(fleet.regions), {"priority": fleet.rng.randrange(1, 1000)})
        await asyncio.sleep(fleet.rng.choice([0.01, 0.3, 3]) * fleet.rng.random())


def _cut(fleet: Fleet, region: str, state: PathState, *, inwards: bool, outwards: bool) -> list[Callable[[], None]]:
    """Between a region and all others: of its pods to their servers (outwards), of theirs to its server (inwards)."""
    broken = []
    for other in fleet.regions:
        if other == region:
            continue
        if outwards:
            broken += [_break(fleet.servers[other], pod.name, state) for pod in fleet.clusters[region]]
        if inwards:
            broken += [_break(fleet.servers[region], pod.name, state) for pod in fleet.clusters[other]]
    return broken


def _break(server: Server, pod: str, state: PathState) -> Callable[[], None]:
    server.break_path(pod, state)
    return lambda: server.mend_path(pod)


def _mend(broken: list[Callable[[], None]]) -> None:
    for mend in broken:
        mend()


async def a_regions_paths_are_slow(fleet: Fleet) -> None:
    region = _region(fleet)
    fleet.tell(f"{region}: its paths are slow")
    broken = [_break(s, pod.name, PathState.SLOW) for s in fleet.servers.values() for pod in fleet.clusters[region]]
    await asyncio.sleep(fleet.rng.choice([10, 60]))
    _mend(broken)


async def two_regions_do_not_see_each_other(fleet: Fleet) -> None:
    one, other = fleet.rng.sample(fleet.regions, 2)
    state = fleet.rng.choice([PathState.REFUSED, PathState.HANGING])
    fleet.tell(f"{one} and {other} do not see each other ({state.value})")
    broken = [_break(fleet.servers[one], pod.name, state) for pod in fleet.clusters[other]]
    broken += [_break(fleet.servers[other], pod.name, state) for pod in fleet.clusters[one]]
    await asyncio.sleep(fleet.rng.choice([5, 20, 60]))
    _mend(broken)


async def leaders_arbiters_restart(fleet: Fleet) -> None:
    for _ in range(3):
        for pod in fleet.clusters[_region(fleet)]:
            if pod.leads():
                fleet.tell(f"{pod.name}: the arbiter restarts")
                pod.kill(Worker.ARBITER)
                await asyncio.sleep(0.3)
                pod.start(Worker.ARBITER)
        await asyncio.sleep(fleet.rng.uniform(0.1, 12))


async def a_leading_pod_is_replaced(fleet: Fleet) -> None:
    for pod in fleet.clusters[_region(fleet)]:
        if pod.leads():
            fleet.tell(f"{pod.name} is replaced")
            pod.replace()
    await asyncio.sleep(2)


UNBOUNDED: Final = (
    a_regions_paths_are_slow,
    two_regions_do_not_see_each_other,
    leaders_arbiters_restart,
    a_leading_pod_is_replaced,
)
"""Faults with no bound of their own: what counts is how often the lock changes hands after them."""


# --- commands, which stay in force ---


async def nobody_commands(_: Fleet) -> None:
    """Most of the time."""


async def the_best_is_enabled(fleet: Fleet) -> None:
    fleet.patch(fleet.regions[0], {"forgeState": "Enabled"})


async def another_is_enabled(fleet: Fleet) -> None:
    fleet.patch(fleet.rng.choice(fleet.regions[1:]), {"forgeState": "Enabled"})


async def the_best_is_disabled(fleet: Fleet) -> None:
    fleet.patch(fleet.regions[0], {"forgeState": "Disabled"})


async def two_are_enabled(fleet: Fleet) -> None:
    for region in fleet.rng.sample(fleet.regions, 2):
        fleet.patch(region, {"forgeState": "Enabled"})


async def an_override_is_in_force(fleet: Fleet) -> None:
    """Until long after, by whatever clock."""
    forced = fleet.rng.choice([{"forceState": "Enabled"}, {"forceState": "Disabled"}, {"forcePriority": 1}])
    override = {"enabled": True, "reason": "a drill", "expiresAt": fleet.expiry(10 * 3600), **forced}
    fleet.patch(fleet.rng.choice(fleet.regions[1:]), {"override": override})


async def a_priority_is_edited_on_one_member(fleet: Fleet) -> None:
    where = fleet.rng.choice(fleet.coordinators).name
    fleet.patch(fleet.rng.choice(fleet.regions[1:]), {"priority": fleet.rng.choice([1, 2, 50])}, on=where)


COMMANDS: Final = (
    nobody_commands,
    the_best_is_enabled,
    another_is_enabled,
    the_best_is_disabled,
    two_are_enabled,
    an_override_is_in_force,
    a_priority_is_edited_on_one_member,
)

FAULTS: Final[dict[Callable[[Fleet], Awaitable[None]], float]] = {
    an_api_server_goes_for_long: HAND_OVER_S,
    an_api_server_restarts: HAND_OVER_S,
    a_region_is_cut_off: UNPLANNED_S,
    a_region_is_cut_off_one_way: UNPLANNED_S,
    one_pods_path_breaks: HAND_OVER_S,
    a_member_is_restored_from_a_backup: HAND_OVER_S,
    a_member_answers_stale_reads: HAND_OVER_S,
    the_lock_is_deleted_by_hand: 0.0,
    an_object_is_deleted: HAND_OVER_S,  # on every member within an instant: the environment's priority counts again
    a_spec_is_spoilt: 0.0,
    a_spoilt_copy_is_out_of_reach_while_the_others_are_edited: HAND_OVER_S,
    all_leaders_die: UNPLANNED_S,
    a_sidecar_dies: UNPLANNED_S,
    a_region_dies: UNPLANNED_S,
    a_worker_dies: HAND_OVER_S,
    workers_die_while_the_own_api_server_is_away: HAND_OVER_S,
    a_forger_is_asked_to_stop: HAND_OVER_S,
    a_node_dies: HAND_OVER_S,
    a_cluster_is_disabled_for_a_while: HAND_OVER_S,
    two_people_enable_two_clusters: HAND_OVER_S,
    an_override_expires: HAND_OVER_S,
    an_override_expires_in_a_partition: UNPLANNED_S,
    priorities_change_at_random: HAND_OVER_S,
}
"""With the longest single time without a forger that one of them may cost a fleet of three members (seconds)."""


async def one_by_one(fleet: Fleet) -> None:
    """Each fault finds a fleet that has recovered from the one before, and costs no more than its bound."""
    await asyncio.sleep(SETTLED_S)
    for _ in range(3):
        await fleet.until_the_best_forges(HOME_S)  # its return is part of the fault before
        fleet.gaps.clear()
        fault = fleet.rng.choice(list(FAULTS))
        fleet.tell(f"=== {fault.__name__}")
        await fault(fleet)
        await asyncio.sleep(SETTLED_S)
        await fleet.until_somebody_forges(BACK_S)
        if max(fleet.gaps, default=0.0) > FAULTS[fault]:
            fleet.violations.append(f"{fault.__name__} cost {max(fleet.gaps):.3f} s, {FAULTS[fault]} at most expected")
    await fleet.until_the_copies_agree(BACK_S)
    await edits_follow_each_other(fleet)


async def one_upon_another(fleet: Fleet) -> None:
    """The next fault begins before the last has ended; in the end all is mended, and somebody forges."""
    for _ in range(3):
        chosen = fleet.rng.sample([*FAULTS, two_halves], 2)
        fleet.tell(f"=== {[fault.__name__ for fault in chosen]}")
        await asyncio.gather(*(_late(fleet, fault) for fault in chosen))
    for number, region in enumerate(fleet.regions):  # what could not be taken back while nobody could be reached
        for server in fleet.spoilt(region):
            fleet.patch(region, {"priority": number + 1, "forgeState": "Priority-based"}, on=server)
        fleet.patch(region, {"forgeState": "Priority-based", "override": {"enabled": False}})
    await fleet.until_somebody_forges(BACK_S)
    await fleet.until_the_copies_agree(BACK_S)
    await edits_follow_each_other(fleet)


async def the_best_region_is_cut_off_one_way_for_long(fleet: Fleet, *, enabled: bool) -> None:
    """Its pods reach their own API server alone, while the others read there what it says of itself."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    if enabled:
        fleet.patch(best, {"forgeState": "Enabled"})
    await asyncio.sleep(SETTLED_S)
    fleet.gaps.clear()
    fleet.tell(f"{best} is cut off from the others")
    broken = _cut(fleet, best, PathState.REFUSED, inwards=False, outwards=True)
    await asyncio.sleep(600)
    if len(fleet.gaps) != 1 or sum(fleet.gaps) > UNPLANNED_S:
        fleet.violations.append(f"one hand-over was to be, and not {len(fleet.gaps)}: {fleet.gaps} s")
    _mend(broken)
    fleet.tell(f"{best} is connected again")
    await fleet.until_forging_in(best, HOME_S)


async def the_own_api_server_is_away_for_an_hour(fleet: Fleet) -> None:
    """Of the forging region, whose pods reach the other members; in the middle of it the forger's sidecar dies."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    await asyncio.sleep(SETTLED_S)
    fleet.gaps.clear()
    fleet.tell(f"the API server of {best} goes for an hour")
    fleet.servers[best].stop()
    await asyncio.sleep(1800)
    if fleet.gaps or fleet.forging_region() != best:
        fleet.violations.append(f"{fleet.forging_region()} forges after half an hour, {fleet.gaps} s without a forger")
    forger = fleet.forgers()[0]
    fleet.tell(f"{forger.name}: all its workers die")
    forger.kill_all()
    await asyncio.sleep(1800)
    if len(fleet.gaps) != 1 or sum(fleet.gaps) > UNPLANNED_S or fleet.forging_region() == best:
        fleet.violations.append(f"one fail-over was to be, and not {len(fleet.gaps)}: {fleet.gaps} s")
    forger.start_all()
    fleet.servers[best].start()
    await fleet.until_forging_in(best, HOME_S)
    if len(fleet.gaps) != 2 or fleet.gaps[1] > HAND_OVER_S:
        fleet.violations.append(f"then one hand-over was to be: {fleet.gaps} s")


async def the_best_region_may_read_the_lock_but_not_write_it(fleet: Fleet, *, enabled: bool) -> None:
    """It says that it should forge, and does not take what is left to it."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    fleet.patch(best, {"forgeState": "Disabled"})
    await asyncio.sleep(SETTLED_S)
    fleet.tell(f"{best} may not write the lock any more")
    for server in fleet.coordinators:
        server.lock.readers.update(pod.name for pod in fleet.clusters[best])
    fleet.gaps.clear()
    fleet.patch(best, {"forgeState": "Enabled" if enabled else "Priority-based"})
    await asyncio.sleep(300)
    if not 1 <= len(fleet.gaps) <= 6 or max(fleet.gaps) > HAND_OVER_S:
        fleet.violations.append(f"the lock was left {len(fleet.gaps)} times in 300 s: {fleet.gaps} s")
    for server in fleet.coordinators:
        server.lock.readers.clear()
    fleet.tell(f"{best} may write it again")
    fleet.patch(
        best, {"priority": 2, "forgeState": "Enabled"}
    )  # another word: it is not waited for what came of the last
    await fleet.until_forging_in(best, HAND_OVER_S + HOLD_DOWN_S)


async def a_paused_holder_is_disabled_while_the_next_region_is_cut_off(fleet: Fleet) -> None:
    """The pause keeps the lock for whom it is left to: that must be one who can take it."""
    await fleet.until_the_best_forges(HOME_S)
    best, others = fleet.forging_region(), sorted(set(fleet.regions) - {fleet.forging_region()})
    await asyncio.sleep(SETTLED_S)
    fleet.pause("a drill")
    await asyncio.sleep(5)
    fleet.tell(f"{others[0]} is cut off, and read by the others")
    broken = _cut(fleet, others[0], PathState.REFUSED, inwards=False, outwards=True)
    await asyncio.sleep(SETTLED_S)
    fleet.patch(best, {"forgeState": "Disabled"})
    await fleet.until_forging_in(others[1], HAND_OVER_S)
    _mend(broken)


async def a_paused_holder_dies_and_is_disabled(fleet: Fleet) -> None:
    """The pause keeps the lock for it, until a person says that it may not forge."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    await asyncio.sleep(SETTLED_S)
    fleet.pause("a drill")
    fleet.tell(f"the pods of {best} are gone")
    for pod in fleet.clusters[best]:
        pod.kill_all()
    await asyncio.sleep(3 * LEASE_S)
    if fleet.forgers():
        fleet.violations.append("the lock was taken over in a pause")
    fleet.patch(best, {"forgeState": "Disabled"})
    await fleet.until_somebody_forges(HAND_OVER_S)


async def a_member_comes_back_from_a_backup_with_the_word_of_the_dead(fleet: Fleet) -> None:
    """Of the best region, whose pods are gone for long: it says there that it should forge, which is news to nobody."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    fleet.patch(best, {"forgeState": "Enabled"})
    await asyncio.sleep(SETTLED_S)
    server = next(server for server in fleet.coordinators if server.name != best)
    restore = server.backup()
    await asyncio.sleep(SETTLED_S)  # it says something else meanwhile: what comes back is not what was seen last
    for pod in fleet.clusters[best]:
        pod.kill_all()
    fleet.tell(f"the pods of {best} are gone")
    await asyncio.sleep(2 * SETTLED_S)
    server.stop()
    await asyncio.sleep(1)
    server.start()
    await asyncio.sleep(2 * SETTLED_S)
    fleet.gaps.clear()
    fleet.tell(f"{server.name} is restored from a backup")
    restore()
    await asyncio.sleep(4 * SETTLED_S)
    if fleet.gaps:
        fleet.violations.append(f"the lock was left to the dead: {fleet.gaps} s without a forger")


async def the_best_region_comes_back_from_a_partition(fleet: Fleet) -> None:
    """It is Enabled, so that nothing holds it down; for a lease duration it counts the others' members as held."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    fleet.patch(best, {"forgeState": "Enabled"})
    await asyncio.sleep(SETTLED_S)
    fleet.tell(f"{best} is cut off")
    broken = _cut(fleet, best, PathState.HANGING, inwards=True, outwards=True)
    await asyncio.sleep(2 * SETTLED_S)
    fleet.gaps.clear()
    _mend(broken)
    fleet.tell(f"{best} is connected again")
    await asyncio.sleep(2 * SETTLED_S)
    if len(fleet.gaps) != 1 or sum(fleet.gaps) > HAND_OVER_S:
        fleet.violations.append(f"one hand-over was to be, and not {len(fleet.gaps)}: {fleet.gaps} s")
    await fleet.until_forging_in(best, HOME_S)


async def a_command_upon_faults(fleet: Fleet) -> None:
    """Once all is mended, no more hand-overs than the causes explain, and who comes first forges in the end, and stays.

    One, because a pod of the forging region is another, or its node; and one, to who comes first.
    """
    await asyncio.sleep(SETTLED_S)
    chosen = fleet.rng.sample([*(f for f in FAULTS if f is not priorities_change_at_random), *UNBOUNDED], 2)
    command = fleet.rng.choice(COMMANDS)
    fleet.tell(f"=== {command.__name__}, {[fault.__name__ for fault in chosen]}")
    if fleet.rng.random() < 0.5:
        await command(fleet)
        await _first_for(fleet, LEASE_S, HOME_S)
        await asyncio.gather(*(_late(fleet, fault) for fault in chosen))
    else:
        await asyncio.gather(*(_late(fleet, each) for each in (*chosen, command)))
    for number, region in enumerate(fleet.regions):
        for server in fleet.spoilt(region):
            fleet.patch(region, {"priority": number + 1, "forgeState": "Priority-based"}, on=server)
    mended_s = asyncio.get_running_loop().time()
    fleet.tell("=== all is mended")
    await _first_for(fleet, 2 * SETTLED_S, 2 * HOME_S)
    _no_more(fleet, 2, since_s=mended_s, most_s=2 * HAND_OVER_S)


async def _first_for(fleet: Fleet, seconds: float, most_s: float) -> None:
    """Until it has forged for so long on end."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + most_s
    since_s = loop.time()
    while loop.time() - since_s < seconds:
        if loop.time() >= end_s:
            fleet.violations.append(f"{fleet.first()} comes first, and did not forge for {seconds:.0f} s on end")
            return
        await asyncio.sleep(0.1)
        if not fleet.first() or fleet.forging_region() != fleet.first():
            since_s = loop.time()


def _no_more(fleet: Fleet, hand_overs: int, *, since_s: float, most_s: float) -> None:
    found = fleet.interruptions(since_s)
    if len(found) > hand_overs or sum(found) > most_s:
        fleet.violations.append(f"{hand_overs} hand-overs at most, in {most_s:.1f} s, and not {len(found)}: {found} s")


async def _one_hand_over_to(region: str, fleet: Fleet, since_s: float) -> None:
    """And it lasts: what would take the right back has the time to."""
    await asyncio.sleep(4 * SETTLED_S)
    _no_more(fleet, 1, since_s=since_s, most_s=HAND_OVER_S)
    await fleet.until_forging_in(region, 0)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def the_best_region_is_enabled_while_a_member_is_slow(fleet: Fleet) -> None:
    """Its own, for everybody: an answer takes up to 1.2 s."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    fleet.patch(best, {"forgeState": "Disabled"})
    await asyncio.sleep(SETTLED_S)
    for pod in fleet.pods:
        fleet.servers[best].break_path(pod.name, PathState.SLOW)
    await asyncio.sleep(SETTLED_S)
    fleet.patch(best, {"forgeState": "Enabled"})
    since_s = _now_s()
    await _one_hand_over_to(best, fleet, since_s)


async def a_region_is_enabled_that_the_holder_has_not_seen_for_long(fleet: Fleet) -> None:
    """They do not reach each other's API server; the third region, which hears the command, sees both."""
    await fleet.until_the_best_forges(HOME_S)
    best, between, other = fleet.regions
    await asyncio.sleep(SETTLED_S)
    fleet.patch(other, {"forgeState": "Enabled"})
    await fleet.until_forging_in(other, SETTLED_S)
    fleet.tell(f"{best} and {other} do not see each other")
    for one, its_own in ((best, other), (other, best)):
        for pod in fleet.clusters[its_own]:
            fleet.servers[one].break_path(pod.name, PathState.HANGING)
    await asyncio.sleep(SETTLED_S)
    since_s = _now_s()
    fleet.patch(other, {"forgeState": "Priority-based"}, on=between)
    fleet.patch(best, {"forgeState": "Enabled"}, on=between)
    await _one_hand_over_to(best, fleet, since_s)


async def a_paused_pool_is_commanded(fleet: Fleet) -> None:
    """Each command is one hand-over; its end is none."""
    await fleet.until_the_best_forges(HOME_S)
    best, second, third = fleet.regions
    await asyncio.sleep(SETTLED_S)
    fleet.pause("new switches")
    forced = {"enabled": True, "reason": "a drill", "expiresAt": fleet.expiry(5 * SETTLED_S), "forceState": "Enabled"}
    for region, spec, forges, hand_overs in (
        (second, {"forgeState": "Enabled"}, second, 1),
        (second, {"forgeState": "Priority-based"}, second, 0),
        (second, {"forgeState": "Disabled"}, best, 1),
        (third, {"override": forced}, third, 1),
        (third, {"priority": 900}, third, 0),
    ):
        since_s = _now_s()
        fleet.patch(region, spec)
        await asyncio.sleep(SETTLED_S)
        await fleet.until_forging_in(forges, 0)
        _no_more(fleet, hand_overs, since_s=since_s, most_s=HAND_OVER_S)
    await asyncio.sleep(2 * SETTLED_S)
    await fleet.until_forging_in(third, 0)


async def the_holders_arbiter_restarts_long_after_the_best_region_died(fleet: Fleet, *, enabled: bool) -> None:
    """Its object still says on every member that it is ready and should forge."""
    await fleet.until_the_best_forges(HOME_S)
    best = fleet.forging_region()
    if enabled:
        fleet.patch(best, {"forgeState": "Enabled"})
    await asyncio.sleep(SETTLED_S)
    fleet.tell(f"the pods of {best} are gone")
    for pod in fleet.clusters[best]:
        pod.kill_all()
    await asyncio.sleep(3 * SETTLED_S)
    fleet.gaps.clear()
    holder = fleet.forgers()[0]
    fleet.tell(f"{holder.name}: the arbiter restarts")
    holder.kill(Worker.ARBITER)
    await asyncio.sleep(0.3)
    holder.start(Worker.ARBITER)
    await asyncio.sleep(3 * SETTLED_S)
    if fleet.gaps or fleet.forgers() != [holder]:
        fleet.violations.append(f"the lock was left to the dead: {fleet.gaps} s without a forger")


async def every_watch_is_over_at_once(fleet: Fleet, *, how: Failure) -> None:
    """By the only server of one region with two pods: one forges, of the other all four followers watch."""
    await asyncio.sleep(SETTLED_S)
    server, seconds = fleet.coordinators[0], 20
    fleet.gaps.clear()
    server.end_watches(how)
    await asyncio.sleep(1)
    server.opened.clear()
    server.lock.opened.clear()
    await asyncio.sleep(seconds)
    opened = {**server.opened, **server.lock.opened}
    busy = {follower: count for follower, count in opened.items() if count > 3 * seconds}
    if busy:
        fleet.violations.append(f"watches opened in {seconds} s: {busy}")
    if not {follower for _, follower in opened} >= FOLLOWERS or fleet.gaps:
        fleet.violations.append(f"{sorted(opened)} watched, {fleet.gaps} s without a forger")
    server.end_watches(None)
    await asyncio.sleep(SETTLED_S)
    fleet.forgers()[0].ask_to_stop()
    await asyncio.sleep(2 * HAND_OVER_S)
    if len(fleet.gaps) != 1 or fleet.gaps[0] > HAND_OVER_S:
        fleet.violations.append(f"then one hand-over was to be: {fleet.gaps}")


async def edits_follow_each_other(fleet: Fleet) -> None:
    """All being well: each is made as soon as the last one is to be seen everywhere, and stands."""
    region = fleet.rng.choice(fleet.regions)
    await fleet.until_the_copies_agree(BACK_S)  # what was edited before, on another member, is carried first
    fleet.tell("=== edits follow each other")
    for priority in range(900, 906):
        fleet.patch(region, {"priority": priority})
        await fleet.until_all_have(region, "priority", priority, BACK_S)
    await fleet.until_the_copies_agree(BACK_S)
    await fleet.until_all_have(region, "priority", priority, 0)


async def _late(fleet: Fleet, fault: Callable[[Fleet], Awaitable[None]]) -> None:
    await asyncio.sleep(fleet.rng.choice([0, 0.01, 1, 10]) * fleet.rng.random())
    await fault(fleet)


async def _no_event(*_: object, **__: object) -> None:
    """Kubernetes Events are no part of the decision."""


def run(monkeypatch: pytest.MonkeyPatch, seed: int, schedule: Schedule, **how: Any) -> Fleet:
    """The same seed gives the same story."""
    loop = SimulatedLoop()
    random.seed(seed)  # the product spreads its retries by it
    product = (workers.elector, workers.arbiter, workers.pool_lock, workers.clusters, workers.coordination)
    for module in (*product, ipc.complaints):
        monkeypatch.setattr(module, "boottime_ns", loop_now)
    for module in (workers.elector, workers.arbiter, workers.pool_lock):
        monkeypatch.setattr(module, "LeaseClient", Leases)
    wall = types.SimpleNamespace(time=wall_s)
    for module in (workers.coordination, workers.clusters):
        monkeypatch.setattr(module, "time", wall)
    dice = types.SimpleNamespace(token_hex=lambda size: random.randbytes(size).hex())
    monkeypatch.setattr(workers.pool_lock, "secrets", dice)
    monkeypatch.setattr(workers.clusters, "ForgeClusterClient", ForgeClusters)
    monkeypatch.setattr(workers.clusters.events, "emit", _no_event)
    monkeypatch.setattr(workers.elector, "LeaderReporter", SilentReporter)
    asyncio.set_event_loop(loop)
    try:
        with tempfile.TemporaryDirectory(prefix="sim-", dir=MEMORY) as folder:  # short: sockets are named in it
            return loop.run_until_complete(_live(seed, Path(folder), schedule, how))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _live(seed: int, folder: Path, schedule: Schedule, how: dict[str, Any]) -> Fleet:
    fleet = Fleet(seed, folder, **how)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: fleet.violations.append(f"a worker's fault: {context}"))
    for pod in fleet.pods:
        pod.start_all()
    await fleet.until_somebody_forges(FIRST_S)
    await schedule(fleet)
    for pod in fleet.pods:
        pod.kill_all()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return fleet
