"""Many schedules of whole pods in simulated time, or one of them, told so that a person can follow it.

    make sim SEEDS=10000           that many schedules, from START on, and which faults met which phases
    make sim SEED=4711             one schedule; if it fails, shortened to what still fails, with its time line

The same seed gives the same story.  Most schedules begin in a pool that forges already: each is played in a process
forked from one in which such a pool was started, so that they share nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from script import FAULTS, Script, play, script
from simulated_host import Loop, here
from whole_pod import simulated
from world import KINDS, PHASES, Kind, World, warmed

MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
PLAYS_AT_MOST_S: Final = 10.0
"""Of processor time; a schedule takes a twentieth of a second."""


@dataclass
class Outcome:
    """Of one schedule."""

    violations: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    met: list[tuple[str, str]] = field(default_factory=list)
    """Each fault, and the phase in which it began."""
    gap_s: float = 0.0
    """The longest time without a forger."""
    simulated_s: float = 0.0


class Stage:
    """A world of a kind, started as far as `warmed` goes, in a loop that stands still."""

    def __init__(self, kind: Kind, *, cold: bool = False, drift: float = 0.004) -> None:
        self.kind = kind
        self._folder = Path(tempfile.mkdtemp(prefix="sim-", dir=MEMORY))
        self._loop = Loop()
        asyncio.set_event_loop(self._loop)
        random.seed(kind.name)  # the product spreads its retries by it
        self.world = self._loop.run_until_complete(self._begin(drift, cold=cold))

    async def _begin(self, drift: float, *, cold: bool) -> World:
        world = World(self.kind, self._folder, drift=drift)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: world.violate(_fault(context)))
        if not cold:
            await warmed(world)
        return world

    def play(self, script: Script, *, lines: Callable[[World], logging.Handler] | None = None) -> Outcome:
        """Once: afterwards this stage is used up.  `lines`: what hears the pods' own log."""
        random.seed(script.seed)
        world, outcome = self.world, Outcome()
        world.rng.seed(script.seed)
        handler = lines(world) if lines is not None else None
        if handler is not None:
            logging.getLogger().addHandler(handler)
        began = self._loop.time()
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._played(script, outcome))
        finally:
            if handler is not None:
                logging.getLogger().removeHandler(handler)
        outcome.violations, outcome.story = world.violations, world.story
        outcome.gap_s = max(world.gaps, default=0.0)
        outcome.simulated_s = self._loop.time() - began
        return outcome

    async def _played(self, script: Script, outcome: Outcome) -> None:
        world = self.world
        world.gaps.clear()
        if script.cold:
            for pod in world.pods:
                pod.start_all()
                pod.node.start()
        await play(world, script, lambda fault, phase: outcome.met.append((fault, phase)))

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _fault(context: dict[str, Any]) -> str:
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    return f"a worker's fault: {context.get('message')}\n{trace}"


# --- many ---


def forked(act: Callable[[], Outcome]) -> Outcome:
    """What `act` gives in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        gc.disable()  # it lives too short to be worth copying every page for

        def too_long(_: int, frame: types.FrameType | None) -> NoReturn:
            where = "".join(traceback.format_stack(frame))
            answer(Outcome([f"no end after {PLAYS_AT_MOST_S:g} s of processor time: it turns in a circle\n{where}"]))

        def answer(outcome: Outcome) -> NoReturn:
            story = outcome.story if outcome.violations else []
            told = json.dumps([outcome.violations, story, outcome.met, outcome.gap_s, outcome.simulated_s])
            with os.fdopen(writing, "w") as pipe:
                pipe.write(told)
            os._exit(0)

        signal.signal(signal.SIGVTALRM, too_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, PLAYS_AT_MOST_S)
        try:
            answer(act())
        except Exception:  # noqa: BLE001  # the process boundary: whatever it is, the parent tells it
            answer(Outcome(violations=[traceback.format_exc()]))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:
        return Outcome(violations=["the process of this schedule ended without a word"])
    violations, story, met, gap_s, simulated_s = json.loads(told)
    return Outcome(violations, story, [(fault, phase) for fault, phase in met], gap_s, simulated_s)


class Theatre:
    """A stage of each kind, as often as it is wanted."""

    def __init__(self, drift: float = 0.004) -> None:
        self._drift = drift
        self._stages: dict[str, Stage] = {}

    def play(self, script: Script) -> Outcome:
        """In a process of its own."""
        if script.cold:
            return forked(lambda: self._alone(script))
        stage = self._stages.get(script.kind.name)
        if stage is None:
            stage = self._stages[script.kind.name] = Stage(script.kind, drift=self._drift)
            gc.collect()
            gc.freeze()
        return forked(lambda: stage.play(script))

    def _alone(self, script: Script) -> Outcome:
        stage = Stage(script.kind, cold=True, drift=self._drift)
        try:
            return stage.play(script)
        finally:
            stage.close()

    def close(self) -> None:
        for stage in self._stages.values():
            stage.close()


def _some(seeds: range) -> list[tuple[int, Outcome]]:
    logging.disable(logging.CRITICAL)
    found = []
    with simulated():
        theatre = Theatre()
        for seed in seeds:
            found.append((seed, theatre.play(script(seed))))
        theatre.close()
    return found


@dataclass
class Tally:
    """Of many schedules."""

    schedules: int = 0
    simulated_s: float = 0.0
    longest_gap_s: float = 0.0
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: dict[int, Outcome] = field(default_factory=dict)

    def add(self, seed: int, outcome: Outcome) -> None:
        self.schedules += 1
        self.simulated_s += outcome.simulated_s
        self.longest_gap_s = max(self.longest_gap_s, outcome.gap_s)
        self.met.update(outcome.met)
        if outcome.violations:
            self.failed[seed] = outcome

    def coverage(self) -> str:
        """How often each fault began in each phase."""
        width = max(len(name) for name in FAULTS)
        lines = [" " * width + "  " + "  ".join(f"{phase:>12}" for phase in PHASES)]
        for name in FAULTS:
            counts = "  ".join(f"{self.met[name, phase] or '-':>12}" for phase in PHASES)
            lines.append(f"{name.replace('_', ' '):{width}}  {counts}")
        pairs = sum(1 for name in FAULTS for phase in PHASES if self.met[name, phase])
        lines.append(f"{pairs} of {len(FAULTS) * len(PHASES)} pairs of fault and phase met")
        return "\n".join(lines)


def many(first: int, count: int, jobs: int, *, most_failures: int = 10) -> Tally:
    """`count` schedules from seed `first` on, in `jobs` processes."""
    tally = Tally()
    size = max(min(count // (jobs * 4), 500), 1)
    chunks = [range(at, min(at + size, first + count)) for at in range(first, first + count, size)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for some in pool.imap_unordered(_some, chunks):
            for seed, outcome in some:
                tally.add(seed, outcome)
            if len(tally.failed) >= most_failures:
                pool.terminate()
                break
    return tally


# --- one ---


class Lines(logging.Handler):
    """The log of the pods' workers, into the story."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        life = here.get()
        who = f"{life.machine.name} {life.name}" if life is not None else "-"
        self._world.tell(f"  {who:22} {record.getMessage()}")


def one(script: Script, *, told: bool) -> Outcome:
    """In a process of its own.  `told`: with the workers' log in the story."""

    def act() -> Outcome:
        stage = Stage(script.kind, cold=script.cold)
        try:
            stage.world.story.clear()
            outcome = stage.play(script, lines=Lines if told else None)
        finally:
            stage.close()
        outcome.violations = outcome.violations or []
        return outcome

    def act_and_show() -> Outcome:
        outcome = act()
        if told:
            print("\n".join(outcome.story))  # noqa: T201  # a program's output
            sys.stdout.flush()
        return outcome

    return forked(act_and_show)


def shortened(script: Script, fails: Callable[[Script], bool]) -> Script:
    """What still fails of a script that does: fewer steps, then shorter waits and faults."""

    def candidates() -> Iterator[Script]:
        for index in range(len(script.steps)):
            yield script.without(index)
        for index, step in enumerate(script.steps):
            if step.phase:
                yield script.changed(index, phase="")
            if step.after_s:
                yield script.changed(index, after_s=0.0)
            for shorter in (0.01, 1.0, 8.0):
                if shorter < step.lasts_s:
                    yield script.changed(index, lasts_s=shorter)

    again = True
    while again:
        again = False
        for candidate in candidates():
            if fails(candidate):
                script, again = candidate, True
                break
    return script


def show(seed: int) -> int:
    """Play one seed; exit code."""
    logging.disable(logging.CRITICAL)
    with simulated():
        whole = script(seed)
        outcome = one(whole, told=False)
        chosen = whole
        if outcome.violations:
            chosen = shortened(whole, lambda shorter: bool(one(shorter, told=False).violations))
        _say(f"seed {seed}: {whole.kind.name}" + (", from the start of all pods" if whole.cold else ""))
        for step in whole.steps:
            _say(f"  {'' if step in chosen.steps or chosen is whole else '(not needed) '}{step}")
        if chosen is not whole:
            _say("shortened to what still fails:")
            for step in chosen.steps:
                _say(f"  {step}")
        _say("")
        logging.disable(logging.NOTSET)
        logging.getLogger().setLevel(logging.INFO)
        outcome = one(chosen, told=True)
    _say("")
    for violation in outcome.violations:
        _say(f"VIOLATION {violation}")
    _say(f"{'FAILED' if outcome.violations else 'held'}; longest without a forger {outcome.gap_s:.3f} s, {outcome.simulated_s:.0f} s simulated")
    return 1 if outcome.violations else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a program's output


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, help="one schedule, told")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return show(chosen.seed)
    began = time.monotonic()
    tally = many(chosen.start, chosen.seeds, chosen.jobs)
    took = time.monotonic() - began
    _say(tally.coverage())
    _say(
        f"{tally.schedules} schedules of {tally.simulated_s / 3600:.1f} simulated hours in {took:.1f} s; longest without a "
        f"forger {tally.longest_gap_s:.1f} s; {len(tally.failed)} failed"
    )
    for seed, outcome in sorted(tally.failed.items()):
        _say(f"seed {seed}: {outcome.violations[0]}\n    make sim SEED={seed}")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
