"""A pod's machine: its processes, which run, stand still or are dead, and what the kernel does when one dies.

Every callback belongs to the process in whose context it was made.  It passes while that process and its machine run,
waits while one of them stands still, and what a dead process still does reaches nobody: its files, sockets and signals
ask `alive` first.  The kernel's own timers stand still with the machine only, and are first when it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import simulated_time
from simulated_time import Clock, SimulatedLoop, clock

T = TypeVar("T")

here: contextvars.ContextVar[Process | None] = contextvars.ContextVar("here", default=None)
"""The process that runs; None: somebody outside all pods."""


def process() -> Process:
    """The one that runs."""
    found = here.get()
    assert found is not None
    return found


class Fd(int):
    """A descriptor that the loop may be asked to watch."""

    reader: tuple[contextvars.Context, Callable[..., object], tuple[Any, ...]] | None = None

    def readable(self) -> None:
        if self.reader is not None:
            context, callback, arguments = self.reader
            asyncio.get_running_loop().call_soon(callback, *arguments, context=context)


class Passage(asyncio.TimerHandle):
    """One callback on its way through its process."""

    __slots__ = ("owner",)

    def __init__(  # type: ignore[no-untyped-def]
        self, owner: Process, when: float, callback, args, loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.owner = owner

    def _run(self) -> None:
        owner = self.owner
        if owner.stands_still:
            owner.held.append(self)
            return
        try:
            self._context.run(self._callback, *self._args)  # type: ignore[attr-defined]
        except Exception as error:  # noqa: BLE001  # what ends a process of the product
            self._context.run(owner.failed, error)  # type: ignore[attr-defined]


class Loop(SimulatedLoop):
    """The simulated clock, and processes: its callbacks go through theirs."""

    def call_soon(  # type: ignore[no-untyped-def]
        self, callback, *args, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        owner = here.get() if context is None else context.get(here)
        if owner is None:
            return super().call_soon(callback, *args, context=context)
        context = contextvars.copy_context() if context is None else context
        passage = Passage(owner, 0, callback, args, self, context)
        self._ready.append(passage)
        return passage

    def call_at(  # type: ignore[no-untyped-def]
        self, when: float, callback, *args, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        owner = here.get() if context is None else context.get(here)
        if owner is None:
            return super().call_at(when, callback, *args, context=context)
        context = contextvars.copy_context() if context is None else context
        passage = Passage(owner, when, callback, args, self, context)
        self.set_timer(passage)
        return passage

    def create_task(self, coro, **options):  # type: ignore[no-untyped-def]
        task = super().create_task(coro, **options)
        owner = here.get()
        if owner is not None:
            owner.tasks[task] = None
            task.add_done_callback(lambda task: owner.tasks.pop(task, None))
        return task

    def pass_again(self, passage: Passage) -> None:
        """One that was held; whoever cancels it now still can."""
        self._ready.append(passage)

    def add_reader(self, fd, callback, *args):  # type: ignore[no-untyped-def]
        if isinstance(fd, Fd):
            fd.reader = contextvars.copy_context(), callback, args
        else:
            super().add_reader(fd, callback, *args)

    def remove_reader(self, fd):  # type: ignore[no-untyped-def]
        if isinstance(fd, Fd):
            fd.reader = None
            return True
        return super().remove_reader(fd)


def _raise(error: Exception) -> None:
    raise error


class Process:
    """One life."""

    def __init__(self, machine: Machine, name: str, *, pid: int = 0) -> None:
        """`pid`: of one that has ended; 0: another one."""
        self.machine, self.name = machine, name
        self.start_ticks = machine.next_pid()
        self.pid = pid or self.start_ticks
        self.alive = True
        self.dies_after = 0
        """Before it does the last of so many more things it is dead; 0: it goes on."""
        self.frozen = False
        self._freezes = 0
        self.held: list[Passage] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}
        """In the order in which they were made: a set's would be another in each run."""
        self.at_death: list[Callable[[], None]] = []
        """What the kernel does then, in this order."""
        self.handler: Callable[[signal.Signals], None] = lambda _: None
        self.patience_ns = 0
        """Its watchdog's: a loop that stands still for so long is killed; 0: it has none."""
        self.failed: Callable[[Exception], None] = _raise
        """What nobody foresaw in one of its callbacks."""
        self.context = contextvars.Context()
        self.context.run(here.set, self)
        self.context.run(clock.set, machine.clock)
        machine.processes[self.pid] = self

    def acts(self) -> bool:
        """It is about to do something that others see; whether it lives to do it."""
        if self.dies_after:
            self.dies_after -= 1
            if not self.dies_after:
                self.die()
        return self.alive

    @property
    def stands_still(self) -> bool:
        return self.alive and (self.frozen or self.machine.paused)

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.alive and not self.frozen:
            self.frozen = True
            self._freezes += 1
            if self.patience_ns:
                number, left = self._freezes, self._watchdog_left()
                self.machine.at(self.machine.now() + left, lambda: self._barks(number))

    def _watchdog_left(self) -> int:
        """ns until it fires: it is wound up four times in its patience."""
        return int(self.patience_ns * self.machine.rng.uniform(0.75, 1))

    def _barks(self, number: int) -> None:
        if self.frozen and self._freezes == number:
            self.die()

    def slept(self, nanoseconds: int) -> None:
        """Its machine stood still for so long, while its clock went on."""
        if self.patience_ns and nanoseconds >= self._watchdog_left():
            self.die()

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self.go_on()

    def go_on(self) -> None:
        if self.stands_still:
            return
        loop = asyncio.get_running_loop()
        held, self.held = self.held, []
        for passage in held:
            loop.pass_again(passage)  # type: ignore[attr-defined]

    def take(self, sig: signal.Signals) -> None:
        """A signal is sent to it; a dead process takes none."""
        if self.alive:
            self.handler(sig)

    def die(self) -> None:
        """Of whatever.  What it did last, it did."""
        if not self.alive:
            return
        self.alive = False
        self.machine.processes.pop(self.pid, None)
        self.go_on()
        for action in self.at_death:
            action()
        for task in tuple(self.tasks):
            task.cancel()


class Machine:
    """Clock, disk, processes and kernel of one pod."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name, self.rng = name, rng
        self.clock = Clock()
        self.paused = False
        self._paused_at = 0
        self.processes: dict[int, Process] = {}
        self.disk: dict[str, str] = {}
        """What is written down: text by path."""
        self.disk_full = False
        self.boot = "1"
        self.wall_clocks: list[WallClockWatch] = []
        self.wall_off_s = 0.0
        """By so much its wall clock was set since it began."""
        self.node: object = None
        self.on_expose: Callable[[], None] = lambda: None
        """Told when keys become visible to a node that may forge with them."""
        self._pids = 10_000_000
        self.kernel: Process | None = None
        """In whose name timers fire; made when the clock is known."""

    def next_pid(self) -> int:
        self._pids += 1
        return self._pids

    def now(self) -> int:
        """ns of its CLOCK_BOOTTIME."""
        return int(asyncio.get_running_loop().time() * 1_000_000_000 * self.clock.rate)

    def at(self, instant: int, action: Callable[[], None]) -> asyncio.TimerHandle:
        """The kernel acts at this instant of this machine's CLOCK_BOOTTIME (ns), or when it goes on after it."""
        if self.kernel is None:
            self.kernel = Process(self, "kernel")
        when = instant / 1_000_000_000 / self.clock.rate
        return asyncio.get_running_loop().call_at(when, action, context=self.kernel.context.copy())

    def soon(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now() + int(seconds * 1_000_000_000), action)

    def set_wall_clock(self, by_s: float) -> None:
        self.wall_off_s += by_s
        for watch in tuple(self.wall_clocks):
            watch.set_by_somebody()

    def pause(self) -> None:
        """A virtual machine that its host does not run; its clocks go on."""
        if not self.paused:
            self.paused, self._paused_at = True, self.now()

    def resume(self) -> None:
        """The kernel's timers come first, the watchdogs' among them."""
        if not self.paused:
            return
        self.paused = False
        slept = self.now() - self._paused_at
        for each in sorted(self.processes.values(), key=lambda one: one is not self.kernel):
            each.slept(slept)
            each.go_on()
        for watch in self.wall_clocks:
            watch.set_by_somebody()


def wall_s() -> float:
    """Seconds since 1970 by the wall clock of the running process's machine."""
    life = here.get()
    return simulated_time.wall_s() + (life.machine.wall_off_s if life is not None else 0.0)


# --- in place of the product's adapters to the kernel ---


class DeathSignal:
    """In place of `kernel.deathpipe.DeathSignal`."""

    def __init__(self) -> None:
        self._process = process()
        self._target: Process | None = None
        self._process.at_death.append(self._fire)

    def aim(self, pid: int) -> None:
        if not self._process.acts():
            return
        if pid not in self._process.machine.processes:
            raise ProcessLookupError(pid)
        self._target = self._process.machine.processes[pid]

    def disarm(self) -> None:
        if self._process.acts():
            self._target = None

    def close(self) -> None:
        self.disarm()

    def _fire(self) -> None:
        machine, target = self._process.machine, self._target
        if target is not None:
            machine.soon(machine.rng.choice([0.0005, 0.001, 0.004]), lambda: target.take(signal.SIGHUP))


class DeathTimer:
    """In place of `kernel.deadline.DeathTimer`."""

    def __init__(self) -> None:
        self._process = process()
        self._handle: asyncio.TimerHandle | None = None
        self._process.at_death.append(self._stop)

    def arm(self, deadline_ns: int) -> None:
        if self._process.acts():
            self._stop()
            self._handle = self._process.machine.at(deadline_ns, self._process.die)

    def disarm(self) -> None:
        if self._process.acts():
            self._stop()

    def close(self) -> None:
        self.disarm()

    def _stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class WallClockWatch:
    """In place of `kernel.wallclock.WallClockWatch`."""

    def __init__(self) -> None:
        self._fd, self._jumped = Fd(1), False
        self._machine = process().machine
        self._machine.wall_clocks.append(self)
        process().at_death.append(self.close)

    def fileno(self) -> int:
        return self._fd

    def set_by_somebody(self) -> None:
        self._jumped = True
        self._fd.readable()

    def jumped(self) -> bool:
        told, self._jumped = self._jumped, False
        return told

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            self._machine.wall_clocks.remove(self)


class Notebook:
    """In place of `workers.notebook.Notebook`: on the machine's simulated disk."""

    def __init__(self, folder: Path, log: logging.Logger, name: str = "term") -> None:
        self._process, self._path, self._log = process(), str(folder / name), log
        self._written: dict[str, Any] = {}

    def read(self, parse: Callable[[dict[str, Any], bool], T | None]) -> T | None:
        machine = self._process.machine
        try:
            raw = json.loads(machine.disk[self._path])
            return parse(raw, raw["boot"] == machine.boot)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def exists(self) -> bool:
        return self._path in self._process.machine.disk

    def keep(self, known: dict[str, Any]) -> None:
        machine = self._process.machine
        if known == self._written or not self._process.acts():
            return
        if machine.disk_full:
            raise OSError(28, "No space left on device")
        machine.disk[self._path] = json.dumps({"boot": machine.boot, **known})
        self._written = known
