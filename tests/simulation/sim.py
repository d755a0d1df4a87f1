"""Many schedules of whole pods in simulated time, or one of them, told so that a person can follow it.

    make sim SEEDS=10000           that many schedules, from START on, and which faults met which phases
    make sim SEED=4711             one schedule; if it fails, shortened to what still fails, with its time line

The same seed gives the same story.  Most schedules begin in a pool that forges already: each is played in a process
forked from one in which such a pool was started, so that they share nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import gc
import logging
import multiprocessing
import multiprocessing.util
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

sys.path.insert(0, str(Path(__file__).parents[2]))  # the product that it stands in

from devkit.ending import end_cleanly

from script import FAULTS, ROW, Script, play, row_of, script
from simulated_host import Loop, here
from whole_pod import simulated
from world import PHASES, Kind, World, warmed

T = TypeVar("T")

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

    def __init__(self, kind: Kind, *, cold: bool, drift: float) -> None:
        self._cold = cold
        self._folder = Path(tempfile.mkdtemp(prefix="sim-", dir=MEMORY))
        self._loop = Loop()
        asyncio.set_event_loop(self._loop)
        random.seed(kind.name)  # the product spreads its retries by it
        self.world = self._loop.run_until_complete(self._begin(kind, drift))

    async def _begin(self, kind: Kind, drift: float) -> World:
        world = World(kind, self._folder, drift=drift)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: world.violate(_fault(context)))
        if not self._cold:
            await warmed(world)
        return world

    def play(self, row: Sequence[Script], *, lines: Callable[[World], logging.Handler] | None = None) -> list[Outcome]:
        """Of each script, one after another, until one fails.  `lines`: what hears the pods' own log."""
        handler = lines(self.world) if lines is not None else None
        for pod in self.world.pods:
            pod.write_instance()
        asyncio.set_event_loop(self._loop)
        if handler is not None:
            logging.getLogger().addHandler(handler)
        try:
            return self._loop.run_until_complete(self._played(row))
        finally:
            if handler is not None:
                logging.getLogger().removeHandler(handler)

    async def _played(self, row: Sequence[Script]) -> list[Outcome]:
        world, loop = self.world, asyncio.get_running_loop()
        if self._cold:
            world.start()
        found: list[Outcome] = []
        for each in row:
            outcome, began = Outcome(), loop.time()
            random.seed(each.seed)
            world.rng.seed(each.seed)
            world.gaps.clear()
            await play(world, each, outcome.met)
            outcome.violations, outcome.story = list(world.violations), list(world.story)
            outcome.gap_s, outcome.simulated_s = max(world.gaps, default=0.0), loop.time() - began
            found.append(outcome)
            if outcome.violations:
                break
        return found

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Something else in this world, as long as it takes."""
        asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _fault(context: dict[str, Any]) -> str:
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    return f"a worker's fault: {context.get('message')}\n{trace}"


# --- many ---


def forked(act: Callable[[], list[Outcome]]) -> list[Outcome]:
    """What `act` gives in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        gc.disable()  # it lives too short to be worth copying every page for

        def too_long(_: int, frame: types.FrameType | None) -> NoReturn:
            where = "".join(traceback.format_stack(frame))
            answer([Outcome([f"no end after {PLAYS_AT_MOST_S:g} s of processor time: it turns in a circle\n{where}"])])

        def answer(outcomes: list[Outcome]) -> NoReturn:
            told = [each if each.violations else replace(each, story=[]) for each in outcomes]
            try:
                with os.fdopen(writing, "wb") as pipe:
                    pickle.dump(told, pipe)
            finally:  # whoever forked us may be gone: this process must not live on as another one of it
                os._exit(0)

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGVTALRM, too_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, PLAYS_AT_MOST_S)
        try:
            outcomes = act()
        except Exception:  # noqa: BLE001  # the process boundary: whatever it is, the parent tells it
            outcomes = [Outcome(violations=[traceback.format_exc()])]
        answer(outcomes)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:
        return [Outcome(violations=["the process of this schedule ended without a word"])]
    found: list[Outcome] = pickle.loads(told)  # our own child's
    return found


class Theatre:
    """A stage of each kind, as often as it is wanted."""

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._stages: dict[str, Stage] = {}

    def play(self, row: Sequence[Script], *, lines: Callable[[World], logging.Handler] | None = None) -> list[Outcome]:
        """One after another, in a process of their own.  With `lines`, the story is printed."""
        stage = self._stage(row[0].kind, cold=row[0].cold)

        def act() -> list[Outcome]:
            stage.world.story.clear()
            found = stage.play(row, lines=lines)
            if lines is not None:
                _say("\n".join(stage.world.story))
            return found

        return forked(act)

    def _stage(self, kind: Kind, *, cold: bool) -> Stage:
        name = f"{kind.name} {cold}"
        if name not in self._stages:
            self._stages[name] = Stage(kind, cold=cold, drift=self._drift)
            gc.collect()
            gc.freeze()
        return self._stages[name]

    def close(self) -> None:
        for stage in self._stages.values():
            stage.close()


_theatre: list[Theatre] = []
"""This process's, and what has to end with it."""


def _begin(drift: float) -> None:
    """Of a process that plays."""
    logging.disable(logging.CRITICAL)
    patched = simulated()
    patched.__enter__()
    theatre = Theatre(drift)
    _theatre.append(theatre)
    atexit.register(patched.__exit__, None, None, None)
    multiprocessing.util.Finalize(theatre, theatre.close, exitpriority=1)
    signal.signal(signal.SIGTERM, _end)  # by whom enough has failed: its folders lie in memory


def _end(*_: object) -> NoReturn:
    """At once: an exception would be lost where a handler runs in a hook of `fork`, and the pool wait for ever."""
    for theatre in _theatre:
        theatre.close()
    os._exit(128 + signal.SIGTERM)


def _some(seeds: range) -> list[tuple[int, Outcome]]:
    """Whole rows."""
    found: list[tuple[int, Outcome]] = []
    for at in range(seeds.start, seeds.stop, ROW):
        row = [script(seed) for seed in range(at, min(at + ROW, seeds.stop))]
        found += [(each.seed, outcome) for each, outcome in zip(row, _theatre[0].play(row), strict=False)]
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


def many(
    first: int, count: int, jobs: int, *, drift: float, most_failures: int, say: Callable[[Tally], None] | None = None
) -> Tally:
    """`count` schedules from seed `first` on, in `jobs` processes; `say`: is told from time to time what came of it."""
    tally = Tally()
    first -= first % ROW
    # Whoever wants one failure does not wait for more.
    size = ROW if jobs == 1 else min(most_failures, 10) * ROW
    chunks = [range(at, min(at + size, first + count)) for at in range(first, first + count, size)]
    if jobs == 1:  # here: to start another process would take longer than to play some rows
        _begin(drift)
        for chunk in chunks:
            for seed, outcome in _some(chunk):
                tally.add(seed, outcome)
            if say is not None:
                say(tally)
            if len(tally.failed) >= most_failures:
                break
        return tally
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_begin, initargs=(drift,)) as pool:
        for some in pool.imap_unordered(_some, chunks):
            for seed, outcome in some:
                tally.add(seed, outcome)
            if say is not None:
                say(tally)
            if len(tally.failed) >= most_failures:
                break
        pool.close() if len(tally.failed) < most_failures else pool.terminate()
        pool.join()
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


def shortened(row: list[Script], fails: Callable[[list[Script]], bool]) -> list[Script]:
    """What still fails of a row that does: fewer schedules and steps, then shorter waits and faults."""

    def candidates() -> Iterator[list[Script]]:
        for at in range(len(row)):
            if len(row) > 1:
                yield row[:at] + row[at + 1 :]
        for at, each in enumerate(row):
            for index, step in enumerate(each.steps):
                yield [*row[:at], each.without(index), *row[at + 1 :]]
                changes: list[dict[str, Any]] = [{"lasts_s": most} for most in (0.01, 1.0, 8.0) if most < step.lasts_s]
                changes += [{"phase": ""}] if step.phase else []
                changes += [{"after_s": 0.0}] if step.after_s else []
                for change in changes:
                    yield [*row[:at], each.changed(index, **change), *row[at + 1 :]]

    again = True
    while again:
        again = False
        for candidate in candidates():
            if fails(candidate):
                row, again = candidate, True
                break
    return row


def show(seed: int, drift: float) -> int:
    """Play one seed, alone and after the others of its row; exit code."""
    logging.disable(logging.CRITICAL)
    with simulated():
        theatre = Theatre(drift)

        def fails(row: list[Script]) -> bool:
            return any(outcome.violations for outcome in theatre.play(row))

        row, whole = [script(seed)], [script(each) for each in row_of(seed)]
        if not fails(row) and fails(whole):
            row = whole
        _say(f"seed {seed}: {row[0].kind.name}" + (", from the start of all pods" if row[0].cold else ""))
        _tell_steps(row)
        if fails(row):
            row = shortened(row, fails)
            _say("shortened to what still fails:")
            _tell_steps(row)
        _say("")
        logging.disable(logging.NOTSET)
        logging.getLogger().setLevel(logging.INFO)
        outcomes = theatre.play(row, lines=Lines)
        theatre.close()
    outcome = outcomes[-1]
    _say("")
    for violation in outcome.violations:
        _say(f"VIOLATION {violation}")
    gap_s, simulated_s = max(each.gap_s for each in outcomes), sum(each.simulated_s for each in outcomes)
    verdict = "FAILED" if outcome.violations else "held"
    _say(f"{verdict}; longest without a forger {gap_s:.3f} s, {simulated_s:.0f} s simulated")
    return 1 if outcome.violations else 0


def _tell_steps(row: Sequence[Script]) -> None:
    for each in row:
        for step in each.steps:
            _say(f"  {'' if len(row) == 1 else f'({each.seed}) '}{step}")


def _say(text: str) -> None:
    print(text, flush=True)  # a program's output


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make sim", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="one schedule, told")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--drift", type=float, default=0.004, help="the clocks' rates are off by this share (A2: 0.005)"
    )
    parser.add_argument("--failures", type=int, default=10, help="enough of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    end_cleanly()
    if chosen.seed is not None:
        return show(chosen.seed, chosen.drift)
    began = time.monotonic()

    def say(so_far: Tally) -> None:
        """For a person who waits; a log has no use for it."""
        if sys.stderr.isatty():
            told = (
                f"{so_far.schedules} of {chosen.seeds}, {len(so_far.failed)} failed, {time.monotonic() - began:.0f} s"
            )
            print(f"\r{told}", end="", file=sys.stderr, flush=True)

    tally = many(chosen.start, chosen.seeds, chosen.jobs, drift=chosen.drift, most_failures=chosen.failures, say=say)
    took = time.monotonic() - began
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _say(tally.coverage())
    _say(
        f"{tally.schedules} schedules of {tally.simulated_s / 3600:.1f} simulated hours in {took:.1f} s; longest "
        f"without a forger {tally.longest_gap_s:.1f} s; {len(tally.failed)} failed"
    )
    for seed, outcome in sorted(tally.failed.items()):
        _say(f"seed {seed}: {outcome.violations[0]}\n    make sim SEED={seed}")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
