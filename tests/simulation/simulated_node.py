"""A node on a simulated machine: it reads its keys at its start and at a SIGHUP, and has metrics and a socket.

What it does is field knowledge (cardano-node Run.hs): a SIGHUP before any handler ends it; the first handler has no
effect on forging; files that are missing disable, files that are there enable; without its files it does not start.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cardano.process import OPTION_OF, NodeCandidate, NodeGone, ProcStatus, SocketCheck, SocketOutcome
from cardano.scrape import ScrapeError
from cardano.slots import slot_at
from config import Config
from workers.credentials import CannotExpose

from simulated_host import Fd, Machine, Process, process, wall_s

REPLAY_S = (0.05, 0.3, 1.0)
WAKING_S = 0.05
LANDING = 0.35
"""Of the time that a reload takes: what was read has yet to come into force."""
SAME_PID = 0.25
"""So often the next process has the pid of the one before."""


class Keys:
    """The files at the target paths, as the node finds them."""

    def __init__(self) -> None:
        self.visible = False
        self.version = 1
        """Of the set that is visible, or was last."""
        self.source = 1
        self.read = False
        """All were opened since they became visible."""
        self.on_read: Callable[[], None] = lambda: None
        self.why = ""


class Node:
    """The node of one pod, restarted by its kubelet."""

    def __init__(self, machine: Machine, config: Config, on_change: Callable[[], None]) -> None:
        self.machine, self.config, self.keys = machine, config, Keys()
        self.on_change = on_change
        self.broken: Callable[[str], None] = lambda _: None
        """Told of what must not have been."""
        self.process: Process | None = None
        self.up = self.takes_hup = self.reads_on_hup = self.hup_pending = False
        self.enabled = False
        """Its forging thread lives."""
        self.with_keys = 0
        self.deaf = self.mute = self.ends_slowly = False
        """Does nothing at a SIGHUP; does not answer for its metrics; takes a while to end at a SIGTERM."""
        self.slow_s = 0.0
        self.lag_slots = 0
        self.right_until = 0
        """Hard end of the right that it was armed under last, ns."""
        self.ends: list[Fd] = []
        self._counted, self._counts_since = 100, 0.0
        self._starts = True
        self._waking = False
        self._last_pid = 0
        self._told_slowly_s = 0.0
        """What the last signal takes, which may have come while it was slow."""
        self.gone = False
        """For ever, with its pod."""

    @property
    def rng(self) -> random.Random:
        return self.machine.rng

    @property
    def forging(self) -> bool:
        """Not while its machine wakes up: what it does before it has taken the signal is beyond everybody's reach."""
        life = self.process
        return self.enabled and life is not None and life.alive and not life.stands_still and not self._waking

    def wakes_up(self) -> None:
        """Its machine goes on.  The kernel's overdue timer fires, and its signal is taken, within this time."""
        self._waking = True
        self.machine.soon(WAKING_S + max(self.slow_s, self._told_slowly_s), self._awake)

    def _awake(self) -> None:
        self._waking = False
        self.on_change()

    # --- its life ---

    def start(self) -> None:
        """The container is started; again and again while the files are missing."""
        if self.process is not None or not self._starts or self.gone:
            return
        if not self.keys.visible:
            self.machine.soon(0.25, self.start)
            return
        again = self.rng.random() < SAME_PID
        life = self.process = Process(self.machine, "cardano-node", pid=self._last_pid if again else 0)
        self._last_pid = life.pid
        life.handler = self._signalled
        life.at_death.append(self._ended)
        self.with_keys, self.keys.read = self.keys.version, True
        self.keys.on_read()
        replay = self.rng.choice(REPLAY_S)
        self._later(life, replay * self.rng.random(), self._early_handler)
        self._later(life, replay, self._is_up)

    def _later(self, life: Process, seconds: float, action: Callable[[], None]) -> None:
        def act() -> None:
            if self.process is life:
                action()

        asyncio.get_running_loop().call_later(seconds, act, context=life.context.copy())

    def _early_handler(self) -> None:
        self.takes_hup = True

    def _is_up(self) -> None:
        self.takes_hup = self.reads_on_hup = self.up = True

    def end(self) -> None:
        if self.process is not None:
            self.process.die()

    def stay_away(self) -> None:
        """It ends, and is not started."""
        self._starts = False
        self.end()

    def come_back(self) -> None:
        self._starts = True
        self.machine.soon(0.01, self.start)

    def _ended(self) -> None:
        self._enable(False)
        self.process = None
        self.up = self.takes_hup = self.reads_on_hup = self.hup_pending = False
        ends, self.ends = self.ends, []
        for fd in ends:
            fd.readable()
        self.machine.soon(self.rng.choice([0.3, 1.0, 2.0]), self.start)

    # --- signals ---

    def _signalled(self, sig: signal.Signals) -> None:
        life = self.process
        assert life is not None
        if sig is signal.SIGKILL:
            life.die()
        elif sig is signal.SIGTERM:
            if not self.ends_slowly:
                self._later(life, self.rng.uniform(0.01, 0.3), life.die)
        elif not self.takes_hup:
            self.broken("a SIGHUP to a node without a handler ended it")
            life.die()
        elif not self.hup_pending:
            self.hup_pending = True
            delay = (self.slow_s or self.rng.choice([0.002, 0.005, 0.03])) * self.rng.uniform(0.5, 1)
            self._told_slowly_s = delay
            late = self.rng.random() < 0.5  # or it is slow in doing what it was told
            self._later(life, delay if late else 0.0005, lambda: self._hear(life, 0.002 if late else delay))

    def _hear(self, life: Process, delay: float) -> None:
        """Each signal has a handler of its own: of two that run the first may end last."""
        self.hup_pending = False
        if self.reads_on_hup and not self.deaf:
            self._later(life, delay * (1 - LANDING), lambda: self._read(life, delay * LANDING))

    def _read(self, life: Process, delay: float) -> None:
        found, version = self.keys.visible, self.keys.version
        self._later(life, delay, lambda: self._land(version if found else 0))

    def _land(self, version: int) -> None:
        self.with_keys = version or self.with_keys
        self._enable(bool(version))

    def _enable(self, on: bool) -> None:  # as a switch
        if on is not self.enabled:
            now = asyncio.get_running_loop().time()
            if self.enabled:
                self._counted += int(now) - int(self._counts_since)
            self.enabled, self._counts_since = on, now
            self.on_change()

    # --- what it shows ---

    def metrics(self) -> str:
        counted = self._counted
        if self.enabled:
            counted += int(asyncio.get_running_loop().time()) - int(self._counts_since)
        shown = {
            "slotNum_int": (slot_at(self.config.calendar, wall_s()) or 0) - self.lag_slots,
            "forging_enabled": int(self.enabled),
            "Forge_forge_about_to_lead_int": counted,
        }
        return "".join(f"cardano_node_metrics_{name} {value}\n" for name, value in shown.items())

    def arguments(self) -> tuple[str, ...]:
        files = [word for name, path in self.config.targets.values() for word in (OPTION_OF[name], str(path))]
        flags = ("--start-as-non-producing-node", "--socket-path", str(self.config.node_socket))
        return ("cardano-node", "run", *flags, *files)


def node_here() -> Node:
    """That of the pod in which we run."""
    found = process().machine.node
    assert isinstance(found, Node)
    return found


# --- in place of the product's adapters to the node ---


class NodeProcess:
    """In place of `cardano.process.NodeProcess`."""

    def __init__(self, node: Node, life: Process) -> None:
        self._life, self._ours, self._fd = life, process(), Fd(2)
        self.pid, self.start_ticks = life.pid, life.start_ticks
        self._ends = node.ends
        self._ends.append(self._fd)
        self._ours.at_death.append(self._forget)

    @classmethod
    def open(cls, pid: int) -> NodeProcess:
        node = node_here()
        if node.process is None or node.process.pid != pid:
            raise NodeGone(f"process {pid} has ended")
        return cls(node, node.process)

    def fileno(self) -> int:
        return self._fd

    def alive(self) -> bool:
        return self._life.alive

    def send(self, sig: signal.Signals) -> None:
        if not self._life.alive:
            raise NodeGone(f"process {self.pid} has ended")
        if self._ours.acts():
            self._life.take(sig)

    def close(self) -> None:
        self._fd.reader = None
        self._forget()

    def _forget(self) -> None:
        self._ends[:] = [fd for fd in self._ends if fd is not self._fd]  # descriptors are alike, as numbers


def read_status(pid: int) -> ProcStatus:
    """In place of `cardano.process.read_status`: of the node, or of whoever asks."""
    node = node_here()
    is_node = node.process is not None and node.process.pid == pid
    if not is_node and pid in {each.pid for each in node.machine.processes.values()}:
        raise NodeGone(f"process {pid} is no node")
    return ProcStatus(
        pid=pid,
        state="S",
        uids=(1000,) * 4,
        gids=(1000,) * 4,
        groups=(),
        cap_eff=0,
        sighup_caught=is_node and node.takes_hup,
        sighup_ignored=False,
        sighup_blocked=False,
        sighup_pending=is_node and node.hup_pending,
        no_new_privs=True,
        seccomp=2,
    )


def read_argv(pid: int) -> tuple[str, ...]:
    node = node_here()
    if node.process is None or node.process.pid != pid:
        raise NodeGone(f"process {pid} has ended")
    return node.arguments()


def start_ticks(pid: int) -> int:
    """Of whoever asks for its own."""
    del pid
    return process().start_ticks


def check_socket(path: Path) -> SocketCheck:
    node = node_here()
    if not node.up or node.process is None:
        return SocketCheck(False, f"{path}: does not exist", 0, SocketOutcome.MISSING)
    return SocketCheck(True, "", node.process.pid, SocketOutcome.ACCEPTS, 1000, 1000)


def find_by_name(name: str, socket: Path, *, supervisor: int | None, files: Sequence[Path]) -> list[NodeCandidate]:
    del name, socket, supervisor, files
    life = node_here().process
    return [NodeCandidate(life.pid, True)] if life is not None else []


async def fetch(url: str, timeout_s: float) -> str:
    """In place of `cardano.scrape.fetch`."""
    del url
    node = node_here()
    delay_s = node.rng.choice([0.001, 0.003, 0.02]) * node.rng.random()
    on_its_way_back = node.rng.random() < 0.5  # what it says may be over by the time that it is heard
    if not on_its_way_back:
        await asyncio.sleep(delay_s)
    if node.process is None or not node.reads_on_hup:
        raise ScrapeError("Connect call failed")
    if node.process.stands_still or node.mute:
        await asyncio.sleep(timeout_s)
        raise ScrapeError("no answer in time")
    said = node.metrics()
    if on_its_way_back:
        await asyncio.sleep(delay_s)
    return said


class Credentials:
    """In place of `workers.credentials.Credentials`: one good set, and another one after each rotation."""

    def __init__(self, config: Config, wake: Callable[[], None], trail: object) -> None:
        del config, trail
        self._process, self._machine, self._node = process(), process().machine, node_here()
        self.sources_problem = self.targets_problem = self.spent = ""
        self.unfit: tuple[str, ...] = ()
        self.findings: tuple[object, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.certificate = self.counter_used = None
        self.operations: Counter[str] = Counter()
        self._keys = self._node.keys
        self._keys.on_read = wake
        self._process.at_death.insert(0, self._vanish)

    def _vanish(self) -> None:
        """The paths end with the process they go through."""
        self._keys.visible = False

    @property
    def rotated(self) -> bool:
        return self._keys.visible and self._keys.source != self._keys.version

    @property
    def read_by_node(self) -> bool:
        return self._keys.read

    def hear_node(self, *_: object, **__: object) -> None:
        pass

    def hear_counters(self, *_: object) -> None:
        pass

    def look(self, now: int) -> None:
        pass

    def expose(self, why: str) -> None:
        if not self._process.acts():
            return
        if self._machine.disk_full:
            raise CannotExpose("kes.skey: No space left on device")
        keys = self._keys
        if why != "bootstrap":
            self._machine.on_expose()
        keys.visible, keys.version, keys.read, keys.why = True, keys.source, False, why

    def withdraw(self, why: str) -> None:
        del why
        if self._process.acts():
            self._keys.visible = False

    def close(self) -> None:
        pass
