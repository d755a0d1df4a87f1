"""Ten thousand hand-overs, one after another, in simulated time: each moves the right once, and nothing grows.

    make handovers TRANSITIONS=10000     a cluster of three pods; and one whose pods need the pool-wide lock, too

Whoever forges is told to stand down for a second, once all pods are ready.  Of each hand-over is asked:

- all that `world` checks, at every step;
- nobody forges for a second at most, and then another does;
- the Lease (and the lock) counts one transition more, and no other.

At the end the most that any worker of a kind holds is compared with the same after the first tenth. No process may end.
`make endurance` does the same with real ones, in hours.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))  # the product that it stands in

from days import LINES, Holding, ended, forgetting, grown, look, side_by_side
from sim import Stage
from whole_pod import simulated
from world import Kind

POOLS: Final = (Kind("a cluster of three", pods_each=3), Kind("a cluster of three, one lock", ("a-east",), 3, 1))
MOST_S: Final = 1.0
"""Nobody forges, at the most."""
READY_S: Final = 60.0
ASIDE_S: Final = 1.0
"""So long the one who forged stands down."""
COMPACTION_S: Final = 5.0
"""What the servers remember is no more than a few hand-overs."""
LINES_TOLD: Final = 10


class HandOvers:
    """Of one world."""

    def __init__(self, world: Any, say: Callable[[str], None]) -> None:
        self._world, self._say = world, say
        self.wrong: list[str] = []
        self.gaps: list[float] = []

    async def run(self, count: int, seed: int) -> None:
        """Ends with the first that is not as it should be."""
        random.seed(seed)
        self._world.rng.seed(seed)
        seen: list[Holding] = []
        servers = asyncio.get_running_loop().create_task(forgetting(self._world, COMPACTION_S))
        for number in range(1, count + 1):
            await self._hand_over(number)
            del self._world.story[:-LINES]
            if self.wrong:
                break
            if number % max(count // LINES_TOLD, 1) == 0:
                await self._all_ready()
                seen.append(look(self._world))
                self._say(self._line(number, seen[-1]))
        servers.cancel()
        if self.wrong:
            return
        early, late = seen[0], seen[-1]
        self.wrong += grown(early, late, lived=False)  # a leader holds more than a standby, whoever it is
        self.wrong += ended(early, late)

    async def _hand_over(self, number: int) -> None:
        world = self._world
        await self._all_ready()
        (forger,), before = world.forgers(), self._counted()
        world.gaps.clear()
        forger.stand_down(ASIDE_S)
        await world.until(lambda: world.forgers() not in ([], [forger]), READY_S, "another forges")
        await asyncio.sleep(ASIDE_S)
        gap_s, counted = sum(world.gaps), self._counted()
        self.gaps.append(gap_s)
        self.wrong += world.violations
        if gap_s > MOST_S:
            self.wrong.append(f"hand-over {number}: nobody forged for {gap_s:.3f} s")
        if [now - was for was, now in zip(before, counted, strict=True)] != [1] * len(before):
            self.wrong.append(f"hand-over {number}: transitions were {before}, and are {counted}")

    async def _all_ready(self) -> None:
        world = self._world
        await world.until(
            lambda: len(world.forgers()) == 1 and all(pod.ready() for pod in world.pods), READY_S, "all pods are ready"
        )

    def _counted(self) -> list[int]:
        """Transitions of the cluster's Lease, and of the pool's lock on each member."""
        world = self._world
        records = [each.record for each in (*world.servers.values(), *(one.lock for one in world.coordinators))]
        return [record.transitions for record in records if record is not None]

    def _line(self, number: int, now: Holding) -> str:
        most = max(now.workers.values(), key=lambda each: each[""])
        return (
            f"{number} hand-overs, {asyncio.get_running_loop().time() / 3600:.2f} h; nobody forged for "
            f"{statistics.median(self.gaps):.3f} s (median), {max(self.gaps):.3f} s (most); the largest worker holds "
            f"{most[''] // 1024} KiB, {now.everything} objects in all, {max(now.disk.values())} bytes on disk"
        )


def one(kind: Kind, count: int, seed: int) -> int:
    """In this process; exit code."""
    logging.disable(logging.CRITICAL)

    def say(text: str) -> None:
        print(f"{kind.name}: {text}", flush=True)

    began = time.monotonic()
    with simulated():
        stage = Stage(kind, cold=False, drift=0.004)
        try:
            told = HandOvers(stage.world, say)
            stage.run(told.run(count, seed))
        finally:
            stage.close()
    for each in told.wrong:
        say(f"VIOLATION {each}")
    if told.wrong:
        print("\n".join(stage.world.story[-200:]), flush=True)
    say("FAILED" if told.wrong else f"held, in {time.monotonic() - began:.0f} s")
    return 1 if told.wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make handovers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--transitions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", choices=[kind.name for kind in POOLS], help="one of them; otherwise both")
    chosen = parser.parse_args()
    if chosen.pool is not None:
        return one(next(kind for kind in POOLS if kind.name == chosen.pool), chosen.transitions, chosen.seed)
    common = ["--transitions", str(chosen.transitions), "--seed", str(chosen.seed)]
    return side_by_side(__file__, POOLS, common)


if __name__ == "__main__":
    sys.exit(main())
