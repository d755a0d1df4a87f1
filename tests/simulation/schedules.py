"""Schedules: a seed makes a pool of three pods, and what happens to them."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from pool_record import PoolRecord

import ipc.complaints
import workers.arbiter
import workers.elector
from kube.leases import LeaseRecord

from simulated_api import Leases, PathState, SimulatedApi
from simulated_pod import WORKERS, Pod
from simulated_time import SimulatedLoop, loop_now

PODS: Final = 3
FIRST_FORGER_S: Final = 40.0
HAND_OVER_S: Final = 1.5
"""The slowest fence of this simulation takes a second."""
BACK_S: Final = 120.0
"""However bad: somebody forges again."""
HANGING_S: Final = 5.0
"""A request that began while the path hung may be awaited this much longer (`Election.request_timeout`)."""
SETTLED_S: Final = 35.0
"""After a fault and its repair, more than two lease durations."""


@dataclasses.dataclass
class Pool(PoolRecord):
    """Three pods, one Lease, and what was seen of them."""

    seed: int
    folder: Path

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # a schedule, no secret
        self.api = SimulatedApi(self.rng, self._written)
        self.pods = [Pod(i, self.folder / str(i), self.api, self.changed) for i in range(PODS)]

    def _written(self, by: str, record: LeaseRecord | None) -> None:
        said = "nothing" if record is None else f"{record.holder or 'nobody'} term {record.transitions}"
        self.tell(f"the lease says {said}, written by {by or 'hand'}")
        writer = next((pod for pod in self.pods if pod.name == by), None)
        if writer is not None and record is not None and not record.holder and writer.node.forging:
            self.violations.append(f"{by} released the lease under its forging node")

    async def until_somebody_forges(self, most_s: float) -> None:
        """A violation after `most_s` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + most_s
        while not self.forgers():
            if loop.time() >= until:
                self.violations.append(f"{loop.time():.4f}: nobody forges for {most_s:.0f} s")
                return
            await asyncio.sleep(0.02)

    async def until_all_are_ready(self, most_s: float) -> None:
        """A violation after `most_s` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + most_s
        while not self.forgers() or not all(pod.ready() for pod in self.pods):
            if loop.time() >= until:
                unready = [pod.name for pod in self.pods if not pod.ready()]
                self.violations.append(f"{loop.time():.4f}: not ready for {most_s:.0f} s: {unready}")
                return
            await asyncio.sleep(0.02)

    def victim(self) -> Pod:
        """Mostly the one that matters."""
        forgers = self.forgers()
        return forgers[0] if forgers and self.rng.random() < 0.75 else self.rng.choice(self.pods)


# --- faults: each ends with its repair; the bound is for the time without a forger ---


async def a_worker_dies(pool: Pool) -> None:
    pod, worker = pool.victim(), pool.rng.choice(WORKERS)
    pool.tell(f"{pod.name}: the {worker} dies")
    pod.kill(worker)
    await asyncio.sleep(pool.rng.choice([0.1, 0.3, 1.0]))
    pod.start(worker)


async def two_workers_die(pool: Pool) -> None:
    pod, (one, other) = pool.victim(), pool.rng.sample(WORKERS, 2)
    pool.tell(f"{pod.name}: the {one} and the {other} die")
    pod.kill(one)
    await asyncio.sleep(pool.rng.choice([0, 0.001, 0.01, 0.1]) * pool.rng.random())
    pod.kill(other)
    for worker in pool.rng.sample([one, other], 2):
        await asyncio.sleep(pool.rng.uniform(0.05, 0.5))
        pod.start(worker)


async def a_sidecar_dies(pool: Pool) -> None:
    pod = pool.victim()
    pool.tell(f"{pod.name}: all its workers die")
    pod.kill_all()
    await asyncio.sleep(pool.rng.choice([0.3, 2, 8, 20]))
    pod.start_all()
    for _ in range(pool.rng.choice([0, 60])):  # just started, it may not know at once whether the node is fit
        pod.say_fit(pool.rng.random() < 0.5)
        await asyncio.sleep(pool.rng.choice([0.002, 0.01, 0.1]) * pool.rng.random())
    pod.say_fit(True)
    await asyncio.sleep(1)


async def a_sidecar_is_asked_to_stop(pool: Pool) -> None:
    """And killed before it could, perhaps."""
    await _stopped_and_started(pool, pool.rng.choice([0.05, 0.5, 3, 12]))


async def a_sidecar_is_restarted(pool: Pool) -> None:
    await _stopped_and_started(pool, pool.rng.choice([3, 4]))


async def _stopped_and_started(pool: Pool, patience_s: float) -> None:
    pod = pool.victim()
    pool.tell(f"{pod.name}: asked to stop")
    pod.ask_to_stop()
    await asyncio.sleep(patience_s)
    pod.kill_all()
    pod.start_all()
    await asyncio.sleep(1)


async def a_node_dies(pool: Pool) -> None:
    pod = pool.victim()
    pool.tell(f"{pod.name}: its node dies")
    pod.node.set_up(False)
    await asyncio.sleep(pool.rng.choice([0.01, 0.2, 1, 4]))
    pod.node.set_up(True)


async def a_node_is_unfit(pool: Pool) -> None:
    pod = pool.victim()
    pool.tell(f"{pod.name}: its node is unfit")
    pod.say_fit(False)
    await asyncio.sleep(pool.rng.choice([0.5, 9.99, 10.0, 10.01, 10.05, 12]))
    pod.say_fit(True)


async def a_node_wavers(pool: Pool) -> None:
    pod = pool.victim()
    pool.tell(f"{pod.name}: its node is fit, and is not, and is")
    for _ in range(pool.rng.randrange(2, 8)):
        pod.say_fit(False)
        await asyncio.sleep(pool.rng.uniform(0, 0.05))
        pod.say_fit(True)
        await asyncio.sleep(pool.rng.uniform(0, 0.05))


async def a_pod_stands_down(pool: Pool) -> None:
    pod = pool.victim()
    pool.tell(f"{pod.name}: stands down")
    pod.stand_down(pool.rng.choice([0.01, 0.05, 0.5, 5]))
    await asyncio.sleep(0.1)


async def the_api_restarts(pool: Pool) -> None:
    pool.tell("the API server goes")
    pool.api.stop()
    await asyncio.sleep(pool.rng.choice([0.2, 1, 3, 6]))
    pool.api.start()
    pool.tell("the API server is back")


async def the_api_is_away_for_longer(pool: Pool) -> None:
    pool.tell("the API server goes")
    pool.api.stop()
    await asyncio.sleep(pool.rng.choice([9, 14, 25]))
    pool.api.start()
    pool.tell("the API server is back")


async def a_path_breaks(pool: Pool) -> None:
    pod = pool.victim()
    state = pool.rng.choice([PathState.REFUSED, PathState.HANGING, PathState.SLOW])
    pool.tell(f"{pod.name}: its path to the API is {state.value}")
    pool.api.paths[pod.name] = state
    pool.api.wake()
    await asyncio.sleep(pool.rng.choice([1, 4, 8, 15, 30]))
    del pool.api.paths[pod.name]
    pool.tell(f"{pod.name}: its path to the API is good again")


async def the_lease_is_deleted(pool: Pool) -> None:
    if pool.api.record is not None:
        pool.api.write("", None)
    await asyncio.sleep(0.5)


async def the_holder_is_erased(pool: Pool) -> None:
    if pool.api.record is not None:
        pool.api.write("", dataclasses.replace(pool.api.record, holder=""))
    await asyncio.sleep(0.5)


FAULTS: Final[dict[Callable[[Pool], Awaitable[None]], float]] = {
    a_worker_dies: 1.5,
    two_workers_die: 1.5,
    a_sidecar_dies: 15.5,
    a_sidecar_is_asked_to_stop: 1.5,
    a_node_dies: 1.5,
    a_node_is_unfit: 1.5,
    a_node_wavers: 1.5,
    a_pod_stands_down: 1.5,
    the_api_restarts: 0.0,
    the_api_is_away_for_longer: 20.0,
    a_path_breaks: 13.0,
    the_lease_is_deleted: 0.0,
    the_holder_is_erased: 0.0,
}
"""With the longest time without a forger that one of them alone may cost (seconds).

Those of 1.5: a second for the restart of a worker or the slowest fence of this simulation, and what follows.
"""


async def one_by_one(pool: Pool, faults: int) -> None:
    """Each fault finds a pool that has recovered from the one before, and costs no more than its bound."""
    for _ in range(faults):
        fault = pool.rng.choice(list(FAULTS))
        pool.gaps.clear()
        await fault(pool)
        await pool.until_somebody_forges(BACK_S)
        await asyncio.sleep(SETTLED_S + pool.rng.uniform(0, 10))
        await pool.until_somebody_forges(BACK_S)
        if max(pool.gaps, default=0.0) > FAULTS[fault]:
            pool.violations.append(f"{fault.__name__} cost {max(pool.gaps):.3f} s, at most {FAULTS[fault]} expected")


RESTARTS: Final = (
    a_worker_dies,
    two_workers_die,
    a_sidecar_dies,
    a_sidecar_is_restarted,
    a_node_dies,
    a_node_is_unfit,
    a_pod_stands_down,
)
SOON_S: Final = 5.0
"""Less than a lease duration: what a restarted worker knows, it knows from its earlier life and from the server."""


async def soon_after_each_other(pool: Pool, faults: int) -> None:
    """A pod that has just come back takes over as quickly as one that was there all the time."""
    for _ in range(faults):
        fault = pool.rng.choice(RESTARTS)
        pool.gaps.clear()
        await fault(pool)
        await asyncio.sleep(SOON_S)
        await pool.until_somebody_forges(BACK_S)
        bound = FAULTS.get(fault, HAND_OVER_S)
        if max(pool.gaps, default=0.0) > bound:
            pool.violations.append(f"{fault.__name__} cost {max(pool.gaps):.3f} s, at most {bound} expected")


async def rolling_updates(pool: Pool, rounds: int) -> None:
    """As a StatefulSet does it: the next pod is replaced when the one before is ready."""
    for _ in range(rounds):
        for pod in pool.rng.sample(pool.pods, PODS):
            pool.gaps.clear()
            pool.tell(f"{pod.name}: is replaced")
            pod.ask_to_stop()
            await asyncio.sleep(2)
            pod.replace()
            await pool.until_all_are_ready(BACK_S)
            if max(pool.gaps, default=0.0) > HAND_OVER_S:
                pool.violations.append(f"replacing {pod.name} cost {max(pool.gaps):.3f} s, {HAND_OVER_S} expected")
        await asyncio.sleep(pool.rng.uniform(0, 10))


async def one_upon_another(pool: Pool, faults: int) -> None:
    """The next fault comes before, or just after, the pool has recovered."""
    for _ in range(faults):
        await pool.rng.choice(list(FAULTS))(pool)
        await asyncio.sleep(pool.rng.choice([0.001, 0.01, 0.1, 0.5, 5]) * pool.rng.random())
    await pool.until_somebody_forges(BACK_S)


async def a_clean_hand_over_after_each_storm(pool: Pool, storms: int) -> None:
    """Whatever happened, once all say that they are ready nothing of it is left: a leader that stops is followed."""
    for _ in range(storms):
        for _ in range(pool.rng.randrange(1, 4)):
            await pool.rng.choice(list(FAULTS))(pool)
            await asyncio.sleep(pool.rng.choice([0.001, 0.01, 0.1, 0.5]) * pool.rng.random())
        await asyncio.sleep(HANGING_S)
        await pool.until_all_are_ready(BACK_S)
        pool.gaps.clear()
        for leader in pool.forgers():
            pool.tell(f"{leader.name}: asked to stop, nothing else being wrong")
            leader.ask_to_stop()
        await asyncio.sleep(5)
        await pool.until_somebody_forges(BACK_S)
        if max(pool.gaps, default=0.0) > HAND_OVER_S:
            pool.violations.append(f"a hand-over cost {max(pool.gaps):.3f} s, at most {HAND_OVER_S} expected")
        for pod in pool.pods:
            pod.start_all()
        await asyncio.sleep(SETTLED_S)


def run(
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    schedule: Callable[[Pool, int], Awaitable[None]],
    faults: int = 6,
) -> Pool:
    """The same seed gives the same story."""
    loop = SimulatedLoop()
    random.seed(seed)  # the product spreads its retries by it
    monkeypatch.setattr(ipc.complaints, "boottime_ns", loop_now)
    for module in (workers.elector, workers.arbiter):
        monkeypatch.setattr(module, "boottime_ns", loop_now)
        monkeypatch.setattr(module, "LeaseClient", Leases)
    monkeypatch.setattr(workers.elector, "LeaderReporter", SilentReporter)
    asyncio.set_event_loop(loop)
    try:
        with tempfile.TemporaryDirectory(prefix="sim-") as folder:  # short: sockets are named in it
            return loop.run_until_complete(_live(seed, Path(folder), schedule, faults))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _live(seed: int, folder: Path, schedule: Callable[[Pool, int], Awaitable[None]], faults: int) -> Pool:
    pool = Pool(seed, folder)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: pool.violations.append(f"a worker's fault: {context}"))
    for pod in pool.pods:
        pod.start_all()
    await pool.until_somebody_forges(FIRST_FORGER_S)
    await asyncio.sleep(pool.rng.uniform(1, 20))
    await schedule(pool, faults)
    for pod in pool.pods:
        pod.kill_all()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return pool


class SilentReporter:
    """In place of a `workers.leader_report.LeaderReporter`: CardanoLeader is no part of the election."""

    def __init__(self, *_: object) -> None:
        pass

    def report(self, *_: object, **__: object) -> None:
        pass

    async def close(self) -> None:
        pass
