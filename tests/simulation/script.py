"""What happens to a world: a seed makes a script, a script can be shortened, and played again.

A step waits for a while, or for a phase of the pool, and then lets something go wrong; that is repaired after a time of
its own, while the script goes on.  So faults meet.  In the end all is repaired, and somebody has to forge again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ipc.messages import Worker
from kube.errors import Failure
from policy import timing

from simulated_api import PathState
from simulated_pod import WORKERS
from world import KINDS, PHASES, Kind, World

Fault = Callable[[World, "Step", Any], Awaitable[None]]

PASSING: Final = tuple(phase for phase in PHASES if phase != "forging")
"""Phases worth waiting for."""
BACK_S: Final = 60.0
"""After the last repair somebody forges within this time, and before that: a lease, a hold-down, a step back."""
LASTS_S: Final = (0.01, 0.2, 0.2, 1, 1, 3, 3, 8, 20, 20)
"""At most: half as long at least.  A lease lasts 15."""
HANDED_OVER_S: Final = 1.5
"""A ready pod forges so soon after the forger was asked to let go."""
PATIENCE_S: Final = 4.0
"""For so long a step waits for its phase."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing that goes wrong."""

    after_s: float
    phase: str
    """To be waited for then; empty: none."""
    fault: str
    victim: int
    """0 to 2: whoever forges, or leads; above: a certain pod, region or server."""
    lasts_s: float
    amount: float
    """0 to 1: what else the fault has to choose."""

    def __str__(self) -> str:
        when = f"after {self.after_s:.4f} s" + (f", when {self.phase}" if self.phase else "")
        return (
            f"{when}: {self.fault.replace('_', ' ')} for {self.lasts_s:.3f} s (victim {self.victim}, {self.amount:.3f})"
        )


@dataclasses.dataclass(frozen=True)
class Script:
    """One schedule."""

    seed: int
    kind: Kind
    cold: bool
    """Where it is the first of its row, it begins with the start of all pods."""
    steps: tuple[Step, ...]

    def without(self, index: int) -> Script:
        return dataclasses.replace(self, steps=self.steps[:index] + self.steps[index + 1 :])

    def changed(self, index: int, **changes: Any) -> Script:
        step = dataclasses.replace(self.steps[index], **changes)
        return dataclasses.replace(self, steps=(*self.steps[:index], step, *self.steps[index + 1 :]))


# --- faults: of a pod ---


async def a_worker_dies(world: World, step: Step, pod: Any) -> None:
    pod.kill(WORKERS[int(step.amount * len(WORKERS))])


async def a_worker_freezes(world: World, step: Step, pod: Any) -> None:
    await _freeze(pod, WORKERS[int(step.amount * len(WORKERS))], step)


async def the_actuator_dies(world: World, step: Step, pod: Any) -> None:
    pod.kill(Worker.ACTUATOR)


async def the_actuator_freezes(world: World, step: Step, pod: Any) -> None:
    await _freeze(pod, Worker.ACTUATOR, step)


async def _freeze(pod: Any, worker: Worker, step: Step) -> None:
    life = pod.lives.get(worker)
    if life is not None:
        life.freeze()
        await asyncio.sleep(step.lasts_s)
        life.thaw()


async def a_worker_dies_in_the_midst(world: World, step: Step, pod: Any) -> None:
    """Between two of the things that it does at one instant: what it writes down, says, asks for, does to the node."""
    life = pod.lives.get((*WORKERS[1:], Worker.ACTUATOR)[int(step.amount * 4)])
    if life is not None:
        life.dies_after = 1 + int(step.amount * 400) % 10
        await asyncio.sleep(step.lasts_s)
        life.dies_after = 0


async def the_sidecar_dies(world: World, step: Step, pod: Any) -> None:
    pod.kill_all()
    await asyncio.sleep(step.lasts_s)
    pod.start_all()


async def the_sidecar_freezes(world: World, step: Step, pod: Any) -> None:
    """supervisord too, so that nobody starts again whom a watchdog ends."""
    lives = tuple(pod.lives.values())
    pod.supervised = False
    for life in lives:
        life.freeze()
    await asyncio.sleep(step.lasts_s)
    for life in lives:
        life.thaw()
    pod.start_all()


async def the_sidecar_is_stopped(world: World, step: Step, pod: Any) -> None:
    pod.ask_to_stop()
    await asyncio.sleep(step.lasts_s)
    pod.kill_all()
    pod.start_all()


async def the_pod_is_replaced(world: World, step: Step, pod: Any) -> None:
    pod.ask_to_stop()
    await asyncio.sleep(min(step.lasts_s, 3.0))
    pod.kill_all()
    pod.node.stay_away()
    await asyncio.sleep(0.5)
    pod.forget()
    pod.start_all()
    pod.node.come_back()


async def a_pod_is_replaced_while_it_lives_on(world: World, step: Step, pod: Any) -> None:
    """As in a StatefulSet by `kubectl delete --force`, its machine being out of reach, perhaps: two have one name."""
    if pod.leaves:
        return
    pod.leaves = True
    if step.amount < 0.7:
        for server in world.servers.values():
            server.break_path(pod.name, PathState.HANGING if step.amount < 0.4 else PathState.REFUSED)
    world.add_another(pod)
    await asyncio.sleep(step.lasts_s)
    world.remove(pod)


async def the_machine_pauses(world: World, step: Step, pod: Any) -> None:
    pod.pause()
    await asyncio.sleep(step.lasts_s)
    pod.resume()


async def the_machine_reboots(world: World, step: Step, pod: Any) -> None:
    pod.kill_all()
    pod.node.stay_away()
    await asyncio.sleep(max(step.lasts_s, 1.0))
    pod.machine.boot += "1"
    pod.start_all()
    pod.node.come_back()


async def the_wall_clock_is_set(world: World, step: Step, pod: Any) -> None:
    """And back, after a while."""
    by_s = (step.amount - 0.5) * (1.0, 60.0, 7200.0)[int(step.amount * 10) % 3]
    pod.machine.set_wall_clock(by_s)
    await asyncio.sleep(step.lasts_s)
    pod.machine.set_wall_clock(-by_s)


async def the_disk_is_full(world: World, step: Step, pod: Any) -> None:
    pod.machine.disk_full = True
    await asyncio.sleep(step.lasts_s)
    pod.machine.disk_full = False


async def it_stands_down(world: World, step: Step, pod: Any) -> None:
    pod.stand_down(max(step.lasts_s, 0.01))
    await asyncio.sleep(step.lasts_s)


# --- of a node ---


async def the_node_dies(world: World, step: Step, pod: Any) -> None:
    pod.node.end()


async def the_node_stays_away(world: World, step: Step, pod: Any) -> None:
    pod.node.stay_away()
    await asyncio.sleep(step.lasts_s)
    pod.node.come_back()


async def the_node_is_slow(world: World, step: Step, pod: Any) -> None:
    """Within the fence margin (A3)."""
    pod.node.slow_s = 0.1 + step.amount
    await asyncio.sleep(step.lasts_s)
    pod.node.slow_s = 0.0


async def the_node_is_deaf(world: World, step: Step, pod: Any) -> None:
    """It does nothing at a SIGHUP: it is killed in time, by an actuator that lives."""
    pod.node.deaf = True
    await asyncio.sleep(step.lasts_s)
    pod.node.deaf = False


async def the_node_ends_slowly(world: World, step: Step, pod: Any) -> None:
    pod.node.deaf = pod.node.ends_slowly = True
    await asyncio.sleep(step.lasts_s)
    pod.node.deaf = pod.node.ends_slowly = False


async def the_node_is_mute(world: World, step: Step, pod: Any) -> None:
    pod.node.mute = True
    await asyncio.sleep(step.lasts_s)
    pod.node.mute = False


async def the_node_freezes(world: World, step: Step, pod: Any) -> None:
    life = pod.node.process
    if life is not None:
        life.freeze()
        pod.node.on_change()
        await asyncio.sleep(step.lasts_s)
        life.thaw()
        pod.node.on_change()


async def the_node_lags(world: World, step: Step, pod: Any) -> None:
    pod.node.lag_slots = 10_000
    await asyncio.sleep(step.lasts_s)
    pod.node.lag_slots = 0


async def the_keys_rotate(world: World, step: Step, pod: Any) -> None:
    pod.node.keys.source += 1


# --- of an API server, and of the way to it ---


def _server(world: World, step: Step, pod: Any) -> Any:
    """That of the victim's region; or another one."""
    others = [server for server in world.servers.values() if server is not pod.api]
    return others[int(step.amount * len(others))] if others and step.victim % 2 else pod.api


async def a_path_is_refused(world: World, step: Step, pod: Any) -> None:
    await _path(world, step, pod, PathState.REFUSED)


async def a_path_hangs(world: World, step: Step, pod: Any) -> None:
    await _path(world, step, pod, PathState.HANGING)


async def a_path_is_slow(world: World, step: Step, pod: Any) -> None:
    await _path(world, step, pod, PathState.SLOW)


async def a_path_repeats_requests(world: World, step: Step, pod: Any) -> None:
    await _path(world, step, pod, PathState.TWICE)


async def answers_are_ill(world: World, step: Step, pod: Any) -> None:
    """5xx, 429, 401, 403, 404, 409, what cannot be read: of what was done, too."""
    await _path(world, step, pod, PathState.ILL)


async def answers_are_lost(world: World, step: Step, pod: Any) -> None:
    await _path(world, step, pod, PathState.ANSWERS_LOST)


async def watches_fall_silent(world: World, step: Step, pod: Any) -> None:
    """Those that are open: a connection that is dead, and nobody was told.  Others are well."""
    server = _server(world, step, pod)
    server.deafened[pod.name] += 1
    for each in (server, server.lock):
        each.wake()


async def _path(world: World, step: Step, pod: Any, state: PathState) -> None:
    server = _server(world, step, pod)
    server.break_path(pod.name, state)
    await asyncio.sleep(step.lasts_s)
    server.mend_path(pod.name)


async def a_pod_is_cut_off(world: World, step: Step, pod: Any) -> None:
    """From every server: its right ends, and whoever can takes over."""
    state = PathState.HANGING if step.amount < 0.5 else PathState.REFUSED
    for server in world.servers.values():
        server.break_path(pod.name, state)
    await asyncio.sleep(step.lasts_s)
    for server in world.servers.values():
        server.mend_path(pod.name)


async def a_region_is_cut_off(world: World, step: Step, pod: Any) -> None:
    """Of its pods to the others' servers, of theirs to its server, or both ways."""
    region = next(name for name, pods in world.clusters.items() if pod in pods)
    state = PathState.HANGING if step.amount * 10 % 1 < 0.5 else PathState.REFUSED
    out, into = step.amount < 0.67, step.amount > 0.33
    others = [name for name in world.regions if name != region]
    pairs = [(each, world.servers[name]) for name in others if out for each in world.clusters[region]]
    pairs += [(each, world.servers[region]) for name in others if into for each in world.clusters[name]]
    for each, server in pairs:
        server.break_path(each.name, state)
    await asyncio.sleep(step.lasts_s)
    for each, server in pairs:
        server.mend_path(each.name)


async def a_server_is_away(world: World, step: Step, pod: Any) -> None:
    server = _server(world, step, pod)
    server.stop()
    await asyncio.sleep(step.lasts_s)
    server.start()


async def reads_are_stale(world: World, step: Step, pod: Any) -> None:
    """Of the cluster's Lease and of the lock's, at one server."""
    server = _server(world, step, pod)
    for each in (server, server.lock):
        each.stale = (each.record, each.version)
    await asyncio.sleep(min(step.lasts_s, 10.0))
    for each in (server, server.lock):
        each.stale = None
        each.wake()


async def watches_are_late(world: World, step: Step, pod: Any) -> None:
    """Of one server, for all; then they tell everything at once."""
    server = _server(world, step, pod)
    server.delay_watches(True)
    await asyncio.sleep(step.lasts_s)
    server.delay_watches(False)


async def every_watch_ends_at_once(world: World, step: Step, pod: Any) -> None:
    server = _server(world, step, pod)
    server.end_watches(Failure.GONE if step.amount < 0.5 else Failure.UNREACHABLE)
    await asyncio.sleep(step.lasts_s)
    server.end_watches(None)


async def a_server_is_restored_from_a_backup(world: World, step: Step, pod: Any) -> None:
    """With its connections broken; without cluster management after a lease duration out of service, too (A6)."""
    server = _server(world, step, pod)
    restore = server.backup(whole=True)
    await asyncio.sleep(step.lasts_s)
    server.stop()
    await asyncio.sleep(16.0 if not world.managed or step.amount < 0.5 else 2 * step.amount)
    world.forget_tokens()
    restore()


async def the_lease_is_deleted(world: World, step: Step, pod: Any) -> None:
    lease = _lease(world, step, pod)
    if lease.record is not None:
        lease.write("", None)


async def somebody_touches_the_lease(world: World, step: Step, pod: Any) -> None:
    """Again and again, changing nothing that counts: whoever writes upon what he read is refused."""
    lease, loop = _lease(world, step, pod), asyncio.get_running_loop()
    until_s = loop.time() + min(step.lasts_s, 10.0)
    while loop.time() < until_s:
        if lease.record is not None and lease.up:
            lease.write("", lease.record)
        await asyncio.sleep(world.rng.choice((0.003, 0.05, 0.5)) * world.rng.random())


async def the_holder_is_erased(world: World, step: Step, pod: Any) -> None:
    lease = _lease(world, step, pod)
    if lease.record is not None:
        lease.write("", dataclasses.replace(lease.record, holder=""))


async def another_is_made_holder_by_hand(world: World, step: Step, pod: Any) -> None:
    lease = _lease(world, step, pod)
    other = world.pods[int(step.amount * len(world.pods))]
    if lease.record is not None:
        holder = f"{other.config.pod_name}_{other.config.instance_file.read_text(encoding='ascii').strip()}"
        lease.write("", dataclasses.replace(lease.record, holder=holder))


def _lease(world: World, step: Step, pod: Any) -> Any:
    server = _server(world, step, pod)
    return server.lock if world.managed and step.amount < 0.5 else server


# --- of an operator, with cluster management ---


def _region_of(world: World, pod: Any) -> str:
    return next(name for name, pods in world.clusters.items() if pod in pods)


async def a_cluster_is_disabled(world: World, step: Step, pod: Any) -> None:
    region = _region_of(world, pod)
    world.patch(region, {"forgeState": "Disabled"})
    await asyncio.sleep(step.lasts_s)
    world.patch(region, {"forgeState": "Priority-based"})


async def a_cluster_is_enabled(world: World, step: Step, pod: Any) -> None:
    region = _region_of(world, pod)
    world.patch(region, {"forgeState": "Enabled"})
    await asyncio.sleep(step.lasts_s)
    world.patch(region, {"forgeState": "Priority-based"})


async def a_priority_is_changed(world: World, step: Step, pod: Any) -> None:
    world.patch(_region_of(world, pod), {"priority": 1 + int(step.amount * 998)})


async def an_override_is_set(world: World, step: Step, pod: Any) -> None:
    region, state = _region_of(world, pod), "Enabled" if step.amount < 0.5 else "Disabled"
    until = world.expiry(step.lasts_s / 2 + 1)
    override = {"enabled": True, "reason": "a drill", "expiresAt": until, "forceState": state}
    world.patch(region, {"override": override})
    await asyncio.sleep(step.lasts_s)
    world.patch(region, {"override": {"enabled": False}})


async def an_object_is_deleted(world: World, step: Step, pod: Any) -> None:
    server = world.coordinators[int(step.amount * len(world.coordinators))]
    server.clusters.delete(world.object_name(_region_of(world, pod)))


ANYWHERE: Final[tuple[Fault, ...]] = (
    a_worker_dies,
    a_worker_dies_in_the_midst,
    a_worker_freezes,
    the_actuator_dies,
    the_actuator_freezes,
    the_sidecar_dies,
    the_sidecar_freezes,
    the_sidecar_is_stopped,
    the_pod_is_replaced,
    a_pod_is_replaced_while_it_lives_on,
    the_machine_pauses,
    the_machine_reboots,
    the_wall_clock_is_set,
    the_disk_is_full,
    it_stands_down,
    the_node_dies,
    the_node_stays_away,
    the_node_is_slow,
    the_node_is_deaf,
    the_node_ends_slowly,
    the_node_is_mute,
    the_node_freezes,
    the_node_lags,
    the_keys_rotate,
    a_path_is_refused,
    a_path_hangs,
    a_path_is_slow,
    a_path_repeats_requests,
    answers_are_ill,
    answers_are_lost,
    a_pod_is_cut_off,
    a_server_is_away,
    a_server_is_restored_from_a_backup,
    reads_are_stale,
    watches_are_late,
    watches_fall_silent,
    every_watch_ends_at_once,
    somebody_touches_the_lease,
    the_lease_is_deleted,
    the_holder_is_erased,
    another_is_made_holder_by_hand,
)
ACROSS: Final[tuple[Fault, ...]] = (
    a_region_is_cut_off,
    a_cluster_is_disabled,
    a_cluster_is_enabled,
    a_priority_is_changed,
    an_override_is_set,
    an_object_is_deleted,
)
"""With cluster management only."""
FAULTS: Final = {fault.__name__: fault for fault in (*ANYWHERE, *ACROSS)}

DEAF: Final = frozenset({"the_node_is_deaf", "the_node_ends_slowly", "the_node_freezes", "the_node_is_mute"})
"""A node that does not do what it is told, or does not show it: only a living actuator helps (A3)."""
HURTS_ACTUATORS: Final = frozenset(
    {
        "a_worker_dies",
        "a_worker_dies_in_the_midst",
        "a_worker_freezes",
        "the_actuator_dies",
        "the_actuator_freezes",
        "the_sidecar_dies",
        "the_sidecar_freezes",
        "the_sidecar_is_stopped",
        "the_pod_is_replaced",
        "a_pod_is_replaced_while_it_lives_on",
        "the_machine_pauses",
        "the_machine_reboots",
        "the_disk_is_full",
    }
)


CALM_S: Final = 0.5
"""So long after the last fault each pod has heard of it, and says that it is ready only if it is."""
SILENCING: Final = frozenset({"a_path_hangs", "a_pod_is_cut_off", "a_region_is_cut_off", "watches_fall_silent"})
SILENCED_S: Final = timing.WATCH_TIMEOUT_S + 60.0
"""For so long, at most, a watch may be dead after one of these and nobody know: who hears no release comes late."""
HANDS_OVER: Final = frozenset({"it_stands_down", "the_sidecar_is_stopped", "the_pod_is_replaced"})

ROW: Final = 5
"""So many schedules are played one after another in one world: what one leaves behind the next one finds."""

UNDER_WAY: Final = (
    "a_path_hangs",
    "a_path_is_slow",
    "a_path_repeats_requests",
    "answers_are_ill",
    "answers_are_lost",
    "watches_are_late",
    "somebody_touches_the_lease",
)
"""What happens to a request between its being sent and its answer's being believed."""

PROVOKING: Final = ("it_stands_down", "the_sidecar_is_stopped", "the_node_dies", "the_sidecar_dies", "the_node_lags")
PROVOKING_ACROSS: Final = ("a_cluster_is_disabled", "a_server_is_away", "an_override_is_set")
"""What makes the pool pass through the phases in which it stays for milliseconds."""
ENDING: Final = ("a_pod_is_cut_off", "a_server_is_away", "the_actuator_dies", "the_lease_is_deleted")
"""What ends a right, beside these."""


def row_of(seed: int) -> range:
    """The seeds that are played before this one in its world, and itself."""
    return range(seed - seed % ROW, seed + 1)


def script(seed: int) -> Script:
    """The same for the same seed."""
    of_row = random.Random(f"row {seed // ROW}")
    kind, cold = of_row.choices(KINDS, (6.2, 1.5, 1.1, 0.85, 0.35))[0], of_row.random() < 0.1
    return Script(seed, kind, cold, tuple(steps(random.Random(seed), kind)))  # a schedule, no secret


def steps(rng: random.Random, kind: Kind, *, spared: frozenset[str] = frozenset()) -> list[Step]:
    """Of one schedule.  spared: faults that are not in it."""
    names = [fault.__name__ for fault in ANYWHERE + (ACROSS if kind.members else ()) if fault.__name__ not in spared]
    calm = [name for name in names if name not in HURTS_ACTUATORS]
    plot = rng.random()
    if plot < 0.12:
        return _upon(rng, sorted(DEAF), calm)
    if plot < 0.24:
        return _upon(rng, ["the_node_is_slow"], [name for name in names if name not in DEAF])
    if plot < 0.34:
        return _upon(rng, list(UNDER_WAY), [name for name in names if name not in DEAF])
    return _any_steps(rng, [name for name in names if name not in DEAF], managed=bool(kind.members))


def _upon(rng: random.Random, first: list[str], names: list[str]) -> list[Step]:
    """The forger's node, or its way to the server, is not what it should be, and while that lasts something ends its
    right, and something else happens."""
    lasting = dataclasses.replace(_step(rng, names), fault=rng.choice(first), victim=0, lasts_s=rng.uniform(5, 20))
    ending = [name for name in (*PROVOKING, *ENDING) if name in names]
    steps = [dataclasses.replace(lasting, phase=""), dataclasses.replace(_step(rng, ending), phase="", victim=0)]
    return steps + [_step(rng, names) for _ in range(rng.choice((0, 1, 1)))]


def _any_steps(rng: random.Random, names: list[str], *, managed: bool) -> list[Step]:
    """One or some; what waits for a phase of milliseconds comes after something that leads there."""
    steps: list[Step] = []
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        step = _step(rng, names)
        if step.phase:
            provoking = [name for name in PROVOKING + (PROVOKING_ACROSS if managed else ()) if name in names]
            steps.append(dataclasses.replace(_step(rng, provoking), phase="", victim=0))
            step = dataclasses.replace(step, after_s=rng.choice((0, 0, 0.001, 0.01)) * rng.random())
        steps.append(step)
    return steps


GRAVE: Final = (
    "the_actuator_freezes",
    "the_sidecar_dies",
    "the_sidecar_freezes",
    "the_machine_pauses",
    "a_pod_is_cut_off",
    "a_path_hangs",
    "a_server_is_away",
)
"""For longer than a lease, at whoever forges: what the fence and the waiting are for."""


def _step(rng: random.Random, names: list[str]) -> Step:
    step = _any_step(rng, names)
    grave = [name for name in GRAVE if name in names]
    if rng.random() < 0.12 and grave:
        step = dataclasses.replace(step, fault=rng.choice(grave), victim=0, lasts_s=rng.uniform(13, 20))
    return step


def _any_step(rng: random.Random, names: list[str]) -> Step:
    return Step(
        after_s=rng.choice((0, 0.001, 0.01, 0.1, 1, 5)) * rng.random(),
        phase=rng.choice(PASSING) if rng.random() < 0.3 else "",
        fault=rng.choice(names),
        victim=rng.randrange(6),
        lasts_s=rng.choice(LASTS_S) * rng.uniform(0.5, 1),
        amount=rng.random(),
    )


async def play(world: World, script: Script, met: list[tuple[str, str]]) -> None:
    """From wherever the world is; each fault, and the phase in which it began, is added to `met`."""
    loop = asyncio.get_running_loop()
    began_s, asked_before = loop.time(), world.asked()
    faults: list[asyncio.Task[None]] = []
    for step in script.steps:
        await asyncio.sleep(step.after_s)
        if step.phase:
            await world.until_phase(step.phase, PATIENCE_S)
        pod = _victim(world, step)
        met.append((step.fault, world.phase()))
        world.tell(f">>> {step.fault.replace('_', ' ')}: {pod.name}, {step.lasts_s:.3f} s, {step.amount:.3f}")
        faults.append(loop.create_task(_fault(world, step, pod)))
    await asyncio.gather(*faults)
    world.tell("all is repaired")
    for pod in world.pods:  # what one fault repaired another may have undone
        if not pod.supervised:
            pod.start_all()
    await world.until_somebody_forges(BACK_S)
    false = world.said_falsely()
    await asyncio.sleep(1.0)
    world.must_not_last(false)
    world.must_not_turn_in_a_circle(asked_before, loop.time() - began_s)


async def _fault(world: World, step: Step, pod: Any) -> None:
    loop = asyncio.get_running_loop()
    calm = world.lasting == 0 and loop.time() >= world.calm_s
    world.begun += 1
    world.lasting += 1
    bound = step.fault in HANDS_OVER and calm and step.lasts_s >= HANDED_OVER_S and world.can_hand_over(pod)
    watching = loop.create_task(_handed_over(world, pod, world.begun)) if bound else None
    await FAULTS[step.fault](world, step, pod)
    world.lasting -= 1
    world.calm_s = max(world.calm_s, loop.time() + (SILENCED_S if step.fault in SILENCING else CALM_S))
    if watching is not None:
        await watching


async def _handed_over(world: World, pod: Any, begun: int) -> None:
    """Somebody else forges by then, if nothing else went wrong."""
    end_s = asyncio.get_running_loop().time() + HANDED_OVER_S
    while not any(each is not pod for each in world.forgers()):
        if world.begun != begun:
            return
        if asyncio.get_running_loop().time() >= end_s:
            world.violate(f"{pod.name} was asked to hand over, and nobody else forges after {HANDED_OVER_S} s")
            return
        await asyncio.sleep(0.02)


def _victim(world: World, step: Step) -> Any:
    """Mostly the one that matters."""
    if step.victim < 3:
        leading = world.forgers() or [pod for pod in world.pods if pod.leads()]
        if leading:
            return leading[0]
    return world.pods[step.victim % len(world.pods)]
