"""Days in the life of one pool, in simulated time: nothing breaks, and what a worker holds stays as it was.

    make days DAYS=24              a cluster of three pods, and two regions of two, side by side; one line for each day
    make days DAYS=2 HOURS=1       shorter days

Each day begins with some hours in which nothing happens; then the credentials rotate, a node flaps for an hour, and a
few times an hour something of `script` goes wrong.  Every fourth day all pods are replaced, one after another.  On
every third day nothing happens that ends a worker: what leaks has time to show.

All that `world` checks is checked at every step.  At the end of a day everything is ready again, the forger's keys are
those of the last rotation, and what is held then is compared with the end of the second day (and, on a day on which all
workers lived on, with that day's morning).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import random
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))  # the product that it stands in

from config import Config

from script import FAULTS, HURTS_ACTUATORS, Script, Step, play, steps
from sim import Stage
from simulated_api import SimulatedApi
from simulated_fleet import Fleet, Objects
from simulated_host import Loop, Machine, Process
from simulated_node import Node
from simulated_pod import Sockets
from whole_pod import WholePod, simulated
from world import HOUR_S, KINDS, Kind

POOLS: Final = (
    next(kind for kind in KINDS if kind.name == "one cluster of three"),
    Kind("two regions of two", ("a-east", "b-west"), 2, 1),
)
IDLE_SHARE: Final = 1 / 8
"""Of each day, at its beginning: nothing happens."""
ROTATION_AT: Final = 6 / 24
UPGRADE_AT: Final = 10 / 24
FLAPPING_AT: Final = 13 / 24
FLAPPING_SHARE: Final = 1 / 24
EVENING_S: Final = 200.0
"""Nothing more begins in the last minutes of a day."""
FAULTS_AN_HOUR: Final = 3.0
UPGRADE_EVERY: Final = 4
CALM_EVERY: Final = 3
READY_S: Final = 180.0
"""Until all pods are ready after whatever happened: a lease, a step back, a hold-down, a lock left to another."""
COMPACTION_S: Final = 300.0
"""An API server forgets what happened before the last compaction but one."""
NOT_IN_DAYS: Final = frozenset({"a_pod_is_replaced_while_it_lives_on"})
"""Each pod is compared with itself."""
LINES: Final = 1000
"""Of the story that are kept."""

SHARE: Final = 0.1
OBJECTS: Final = 100
BYTES: Final = 16 * 1024
"""What is held may be that much more than it was."""
COUNTED: Final = 4
"""Tasks and descriptors may be so many more."""
DISK: Final = 2048
"""Bytes of what the workers of one pod wrote down."""


# --- what is held ---

_ELSEWHERE: Final = (
    types.ModuleType,
    type,
    types.CodeType,
    types.FrameType,
    logging.Logger,
    random.Random,
    Loop,
    Fleet,
    WholePod,
    Machine,
    Process,
    Node,
    Sockets,
    SimulatedApi,
    Objects,
    Config,
)
"""Where what a worker holds ends: the program, its configuration, and what is simulated around it."""


def held(roots: Iterable[object]) -> Counter[str]:
    """How many objects of each type can be reached from these; and under "" the bytes of them all."""
    seen: set[int] = set()
    found: Counter[str] = Counter()
    left = list(roots)
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, _ELSEWHERE):
            continue
        seen.add(id(each))
        found[type(each).__name__] += 1
        found[""] += sys.getsizeof(each, 0)
        if isinstance(each, types.FunctionType):  # not its module
            left += [*(each.__closure__ or ()), *(each.__defaults__ or ())]
        else:
            left += gc.get_referents(each)
    return found


@dataclass(frozen=True, slots=True)
class Holding:
    """What there is at one time."""

    workers: dict[str, Counter[str]]
    """By pod and worker: what its tasks reach."""
    lives: dict[str, int]
    """By pod and worker: its pid."""
    disk: dict[str, int]
    """By pod: bytes written down."""
    everything: int
    """Objects that the garbage collector knows, of the whole process."""
    blocks: int
    """Pieces of memory of the whole process."""
    tasks: int
    fds: int


def look(world: Any) -> Holding:
    """After a collection."""
    gc.collect()
    workers, lives = {}, {}
    for pod in world.pods:
        for worker, life in pod.lives.items():
            name = f"{pod.name} {worker}"
            workers[name] = held(life.tasks)
            lives[name] = life.pid
    return Holding(
        workers,
        lives,
        {pod.name: sum(map(len, pod.machine.disk.values())) for pod in world.pods},
        len(gc.get_objects()),
        sys.getallocatedblocks(),
        len(asyncio.all_tasks()),
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208  # names are not needed
    )


def grown(before: Holding, now: Holding, *, lived: bool) -> list[str]:
    """What is held more than it was, in words.  lived: only of workers that are the same processes, each with itself;
    otherwise the most that any worker of a kind holds is compared."""
    wrong = []
    if lived:
        same = [name for name, life in now.lives.items() if before.lives.get(name) == life]
        pairs = [(name, before.workers[name], now.workers[name]) for name in same]
    else:
        kinds = sorted({name.partition(" ")[2] for name in now.workers} & {n.partition(" ")[2] for n in before.workers})
        pairs = [(f"any {kind}", _most(before, kind), _most(now, kind)) for kind in kinds]
        for what, old, new, most in (
            ("objects of the whole process", before.everything, now.everything, before.everything * SHARE),
            ("pieces of memory of the whole process", before.blocks, now.blocks, before.blocks * SHARE),
            ("tasks", before.tasks, now.tasks, COUNTED),
            ("descriptors", before.fds, now.fds, COUNTED),
        ):
            if new > old + most:
                wrong.append(f"{what}: {old} -> {new}")
        wrong += [
            f"{pod}: bytes written down: {before.disk[pod]} -> {size}"
            for pod, size in now.disk.items()
            if size > before.disk[pod] + DISK
        ]
    for name, old, new in pairs:
        if _objects(new) > _objects(old) * (1 + SHARE) + OBJECTS or new[""] > old[""] * (1 + SHARE) + BYTES:
            more = [f"{kind} {count:+d}" for kind, count in (new - old).most_common(6) if kind]
            wrong.append(
                f"{name} holds {_objects(old)} -> {_objects(new)} objects, {old['']} -> {new['']} bytes: "
                + ", ".join(more)
            )
    return wrong


def ended(morning: Holding, evening: Holding) -> list[str]:
    """Workers that are not those of the morning, in words: what they held is gone, and was compared with nothing."""
    return [f"{name} was started anew" for name, life in morning.lives.items() if evening.lives.get(name) != life]


def old_keys(pods: Iterable[Any]) -> list[str]:
    """Nodes that forge with another set than the last one, in words."""
    return [
        f"{pod.name} forges with set {pod.node.with_keys}, and {pod.node.keys.source} is in its secret"
        for pod in pods
        if pod.node.forging and pod.node.with_keys != pod.node.keys.source
    ]


def _objects(held: Counter[str]) -> int:
    return held.total() - held[""]


def _most(holding: Holding, kind: str) -> Counter[str]:
    return max((each for name, each in holding.workers.items() if name.partition(" ")[2] == kind), key=_objects)


async def forgetting(world: Any, every_s: float) -> None:
    """Its servers' histories, again and again, as etcd is compacted; and what was noted of their watches."""
    logs: list[Any] = []
    for server in world.servers.values():
        logs += [server, server.lock, server.clusters]
    before = [log.version for log in logs]
    while True:
        await asyncio.sleep(every_s)
        for log, version in zip(logs, before, strict=True):
            log.compact(version)
        before = [log.version for log in logs]
        for server in world.servers.values():
            server.opened.clear()


# --- a day ---


def is_calm(day: int) -> bool:
    """Nothing happens on it that ends a worker."""
    return day % CALM_EVERY == 0


def is_for_an_upgrade(day: int) -> bool:
    """Every fourth; a calm one leaves it to the next day."""

    def due(day: int) -> bool:
        return day % UPGRADE_EVERY == UPGRADE_EVERY // 2

    return not is_calm(day) and (due(day) or (is_calm(day - 1) and due(day - 1)))


@dataclass
class Tally:
    """Of one day."""

    schedules: int = 0
    met: list[tuple[str, str]] = field(default_factory=list)
    gap_s: float = 0.0
    pauses: int = 0
    """How often nobody forged for a while, be it milliseconds."""
    idle_cpu_s: float = 0.0
    """Of processor time, for one simulated hour in which nothing happens."""
    cpu_s: float = 0.0


class Life:
    """Of one world."""

    def __init__(self, world: Any, seed: int, hours: float) -> None:
        self.world, self.seed, self.day_s = world, seed, hours * HOUR_S
        self.dice = random.Random(seed)
        self.wrong: list[str] = []
        self._second: Holding | None = None
        self._day = 0
        self._tally = Tally()

    async def days(self, count: int, say: Callable[[str], None]) -> bool:
        """Whether all held; ends with the first day on which it did not."""
        random.seed(self.seed)
        self.world.rng.seed(self.seed)
        compaction = asyncio.get_running_loop().create_task(forgetting(self.world, COMPACTION_S))
        for self._day in range(1, count + 1):
            self._tally = Tally()
            began = time.process_time()
            morning, evening = await self._live()
            self._tally.cpu_s = time.process_time() - began
            self._judge(morning, evening)
            say(self._line(evening))
            if self.wrong:
                break
        compaction.cancel()
        return not self.wrong

    @property
    def calm(self) -> bool:
        return is_calm(self._day)

    async def _live(self) -> tuple[Holding, Holding]:
        loop, world = asyncio.get_running_loop(), self.world
        begun = loop.time()
        world.gaps.clear()
        await self._idle()
        morning = look(world)
        for at_s, act in self._plan():
            await asyncio.sleep(max(0.0, begun + at_s - loop.time()))
            await act()
            del world.story[:-LINES]
            if world.violations:
                break
        else:
            await asyncio.sleep(max(0.0, begun + self.day_s - loop.time()))
            await self._all_ready()
            self.wrong += old_keys(world.pods)
        self._tally.gap_s = max(world.gaps, default=0.0)
        self._tally.pauses = len(world.gaps)
        return morning, look(world)

    async def _idle(self) -> None:
        """The least of some stretches: in the first the last of yesterday is done."""
        stretch_s, costs = self.day_s * IDLE_SHARE / 3, []
        for _ in range(3):
            began = time.process_time()
            await asyncio.sleep(stretch_s)
            costs.append((time.process_time() - began) * HOUR_S / stretch_s)
        self._tally.idle_cpu_s = min(costs)

    def _plan(self) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        """What happens today, and when: seconds from its beginning."""
        found: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (self.day_s * ROTATION_AT, self._rotate),
            (self.day_s * FLAPPING_AT, self._flap),
        ]
        if is_for_an_upgrade(self._day):
            found.append((self.day_s * UPGRADE_AT, self._upgrade))
        at_s = self.day_s * IDLE_SHARE
        while (at_s := at_s + self.dice.expovariate(FAULTS_AN_HOUR / HOUR_S)) < self.day_s - EVENING_S:
            found.append((at_s, self._fault))
        return sorted(found, key=lambda each: each[0])

    # --- what happens ---

    async def _fault(self) -> None:
        """A schedule of `script`, with its repair."""
        spared = HURTS_ACTUATORS if self.calm else NOT_IN_DAYS
        number = self.dice.randrange(2**32)
        self._tally.schedules += 1
        kind = self.world.kind
        await play(
            self.world,
            Script(number, kind, False, tuple(steps(random.Random(number), kind, spared=spared))),
            self._tally.met,
        )

    async def _rotate(self) -> None:
        """The same new set for each pod, some seconds after each other."""
        self.world.tell(">>> the keys rotate, in every pod")
        for pod in self.world.pods:
            pod.node.keys.source += 1
            await asyncio.sleep(self.dice.uniform(0, 20))

    async def _upgrade(self) -> None:
        """As a StatefulSet does it: the next pod once this one is ready."""
        self.world.tell(">>> an upgrade")
        for pod in self.world.pods:
            await FAULTS["the_pod_is_replaced"](self.world, _step("the_pod_is_replaced", 3.0), pod)
            await self._all_ready()

    async def _flap(self) -> None:
        """One node comes and goes, or falls behind and catches up."""
        loop, pod = asyncio.get_running_loop(), self.dice.choice(self.world.pods)
        self.world.tell(f">>> the node of {pod.name} flaps")
        until = loop.time() + self.day_s * FLAPPING_SHARE
        while loop.time() < until and not self.world.violations:
            name = self.dice.choice(("the_node_dies", "the_node_stays_away", "the_node_lags"))
            await FAULTS[name](self.world, _step(name, self.dice.uniform(0.1, 20)), pod)
            await asyncio.sleep(self.dice.uniform(1, 60))
        await self.world.until_somebody_forges(READY_S)

    async def _all_ready(self) -> None:
        await self.world.until(
            lambda: bool(self.world.forgers()) and all(pod.ready() for pod in self.world.pods),
            READY_S,
            "all pods are ready",
        )

    # --- what comes of it ---

    def _judge(self, morning: Holding, evening: Holding) -> None:
        self.wrong += self.world.violations
        if self.wrong:
            return
        if self._second is not None:
            self.wrong += [f"since the second day: {each}" for each in grown(self._second, evening, lived=False)]
        if self.calm:
            self.wrong += [f"on a calm day {each}" for each in ended(morning, evening)]
            self.wrong += [f"since the morning: {each}" for each in grown(morning, evening, lived=True)]
        if self._day == 2:
            self._second = evening

    def _line(self, now: Holding) -> str:
        tally = self._tally
        kinds = sorted({name.partition(" ")[2] for name in now.workers})
        most = {kind: _most(now, kind) for kind in kinds}
        told = ", ".join(f"{kind} {_objects(each)} ({each[''] // 1024} KiB)" for kind, each in most.items())
        return (
            f"day {self._day:2d}{' (calm)' if self.calm else ''}: {tally.schedules} schedules of {len(tally.met)} "
            f"faults, {tally.pauses} times nobody forged, for {tally.gap_s:.1f} s at most; objects held at most by one "
            f"{told}; {now.everything} in all, {now.blocks} blocks, {now.tasks} tasks, {now.fds} fds, "
            f"{max(now.disk.values())} bytes on disk; {tally.cpu_s:.0f} s of processor time, {tally.idle_cpu_s:.1f} s "
            "an idle hour"
        )


def _step(fault: str, lasts_s: float) -> Step:
    return Step(0.0, "", fault, 0, lasts_s, 0.5)


# --- the program ---


def one(kind: Kind, days: int, hours: float, seed: int) -> int:
    """Live in this process; exit code."""
    logging.disable(logging.CRITICAL)

    def say(text: str) -> None:
        print(f"{kind.name}: {text}", flush=True)

    with simulated():
        stage = Stage(kind, cold=False, drift=0.004)
        try:
            life = Life(stage.world, seed, hours)
            held_all = stage.run(life.days(days, say))
        finally:
            stage.close()
    for each in life.wrong:
        say(f"VIOLATION {each}")
    if not held_all:
        print("\n".join(stage.world.story[-200:]), flush=True)
    if held_all and days <= 2:
        say("too few days to compare what is held: the first two are where it begins")
    say("held" if held_all else f'FAILED: make days DAYS={days} HOURS={hours:g} SEED={seed} POOL="{kind.name}"')
    return 0 if held_all else 1


def side_by_side(program: str, pools: Iterable[Kind], arguments: list[str]) -> int:
    """A process of this program for each pool; exit code."""
    running = [subprocess.Popen([sys.executable, program, "--pool", kind.name, *arguments]) for kind in pools]
    with contextlib.suppress(KeyboardInterrupt):
        return max(process.wait() for process in running)
    return 130


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make days", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--days", type=int, default=24)
    parser.add_argument("--hours", type=float, default=24.0, help="of one day")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", choices=[kind.name for kind in POOLS], help="one of them; otherwise both")
    chosen = parser.parse_args()
    if chosen.pool is not None:
        return one(next(kind for kind in POOLS if kind.name == chosen.pool), chosen.days, chosen.hours, chosen.seed)
    common = ["--days", str(chosen.days), "--hours", str(chosen.hours), "--seed", str(chosen.seed)]
    return side_by_side(__file__, POOLS, common)


if __name__ == "__main__":
    sys.exit(main())
