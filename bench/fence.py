"""Kill the actuator again and again: does the node turn off each time, and how soon?

    python -m bench.fence --rounds 1000

Each round forks an actuator-like process which holds the whole fence (stage, links, death signal, death timer) and
lets a node-like process read the three files.  Then it dies, in one of four ways in turn:

- quiet     SIGKILL while it waits
- busy      SIGKILL in the middle of writing and exposing sets, as fast as it can
- stopped   SIGSTOP, then SIGKILL
- deadline  SIGSTOP, then its own kernel timer

The node does what a cardano-node does at a SIGHUP: VRF key, certificate and KES key in turn, for each it asks whether
the file exists and then opens it (cardano-api, fileIOExceptT); the first failure decides, and only "does not exist"
turns it off.  That is ENOENT, or ESRCH: what /proc answers to a look just while the dead process is being reaped
(fs/proc/base.c, proc_pid_permission).  ESRCH is counted apart; from an open after the question it would not be "off".
A round counts as off if *every* look after the death found that, and there was one.  The latency is from the SIGKILL
(the deadline) to the end of the first such look.
Exit code 1 if any round did not turn off.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import os
import platform
import random
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from kernel.clock import boottime_ns
from kernel.cwdstage import Stage
from kernel.deadline import DeathTimer
from kernel.deathpipe import DeathSignal
from kernel.process import die_with_parent, filesystem_is_memory, set_dumpable

MODES: Final = ("quiet", "busy", "stopped", "deadline")
NAMES: Final = ("vrf.skey", "node.cert", "kes.skey")
_LIFE_NS: Final = 60_000_000_000
_DEADLINE_NS: Final = 20_000_000
_LOOK: Final = struct.Struct("<qi")
_NUMBER: Final = struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class Round:
    """One death: how it came, what the node found at each look since, ms until the first of them was over."""

    mode: str
    found: tuple[str, ...]
    ms: float

    @property
    def off(self) -> bool:
        """Whether each look found that the file does not exist."""
        return bool(self.found) and set(self.found) <= {"ENOENT", "ESRCH"}


def measure(rounds: int, base: Path, user: tuple[int, int] | None = None) -> Iterator[Round]:
    """Kill `rounds` actuators below `base`; as (uid, gid) `user`, for which we must be root.  Leaves no process."""
    if user is not None:
        os.chown(base, *user)
    with _node(base, user) as node:
        for number in range(rounds):
            yield _round(MODES[number % len(MODES)], base, node, user)


def _round(mode: str, base: Path, node: _Node, user: tuple[int, int] | None) -> Round:
    said, say = os.pipe2(os.O_CLOEXEC)
    heard, tell = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(said)
        os.close(tell)
        _in_child(lambda: _actuator(mode, base, node.pid, say, heard), user, parent)
    os.close(say)
    os.close(heard)
    try:
        _exactly(said, 1)
        os.kill(node.pid, signal.SIGHUP)
        if (looks := node.looks()) and looks[0][1]:
            raise RuntimeError(f"the node could not read what was exposed: {looks}")
        os.write(tell, b"g")
        start = _die(mode, pid, said, tell)
        os.waitpid(pid, 0)
        pid = 0
        looks = node.looks()
        first = looks[0][0] if looks else boottime_ns()
        found = tuple(_word(code) for _, code in looks)
        return Round(mode, found, (first - start) / 1e6)
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(said)
        os.close(tell)


def _word(code: int) -> str:
    if code == 0:
        return "readable"
    return ("open: " if code < 0 else "") + errno.errorcode.get(abs(code), str(code))


def _die(mode: str, pid: int, said: int, tell: int) -> int:
    """See to the actuator's death; the boottime instant (ns) from which its latency counts."""
    if mode == "deadline":
        deadline = boottime_ns() + _DEADLINE_NS
        os.write(tell, _NUMBER.pack(deadline))
        os.read(said, 1)  # nothing: on a machine that is slow its timer was faster than its word
        os.kill(pid, signal.SIGSTOP)
        return deadline
    if mode == "busy":
        _exactly(said, 1)
        until = boottime_ns() + random.randrange(2_000_000)
        while boottime_ns() < until:
            pass
    elif mode == "stopped":
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
    start = boottime_ns()
    os.kill(pid, signal.SIGKILL)
    return start


def _actuator(mode: str, base: Path, node: int, say: int, heard: int) -> None:
    """Hold the whole fence, expose three files, and wait for the end."""
    timer = DeathTimer()
    timer.arm(boottime_ns() + _LIFE_NS)
    stage = Stage(base / "keys")
    files = {name: name.encode() * 40 for name in NAMES}
    stage.install_links({name: base / name for name in NAMES})
    DeathSignal().aim(node)
    stage.expose(stage.prepare(files))
    os.write(say, b"a")
    _exactly(heard, 1)
    if mode == "deadline":
        timer.arm(_NUMBER.unpack(_exactly(heard, _NUMBER.size))[0])
        os.write(say, b"d")
    elif mode == "busy":
        os.write(say, b"b")
        while True:
            stage.expose(stage.prepare(files))
    while True:
        signal.pause()


class _Node:
    """The parent's view of the node-like process."""

    def __init__(self, pid: int, answers: int) -> None:
        self.pid = pid
        self._answers = answers

    def looks(self) -> list[tuple[int, int]]:
        """(boottime ns, errno) of each look since the last call; a SIGHUP sent before this call is among them."""
        os.kill(self.pid, signal.SIGUSR1)  # a higher number than SIGHUP: of two that wait, it is delivered second
        (count,) = _NUMBER.unpack(_exactly(self._answers, _NUMBER.size))
        return list(_LOOK.iter_unpack(_exactly(self._answers, count * _LOOK.size)))


@contextlib.contextmanager
def _node(base: Path, user: tuple[int, int] | None) -> Iterator[_Node]:
    answers, answer = os.pipe2(os.O_CLOEXEC)
    ours = {signal.SIGHUP, signal.SIGUSR1}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        _in_child(lambda: _be_node(base, answer), user, parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(answer)
    try:
        yield _Node(pid, answers)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(answers)


def _be_node(base: Path, answer: int) -> None:
    looks: list[bytes] = []
    while True:
        if signal.sigwait({signal.SIGHUP, signal.SIGUSR1}) == signal.SIGHUP:
            code = _look(base)
            looks.append(_LOOK.pack(boottime_ns(), code))
        else:
            os.write(answer, _NUMBER.pack(len(looks)) + b"".join(looks))
            looks.clear()


def _look(base: Path) -> int:
    """The errno at the first file that is said not to exist; 0: all were read; negative: one could not be opened."""
    for name in NAMES:
        try:
            (base / name).stat()
        except OSError as error:
            return error.errno or -1
        try:
            (base / name).read_bytes()
        except OSError as error:
            return -(error.errno or 1)
    return 0


def _in_child(do: Callable[[], None], user: tuple[int, int] | None, parent: int) -> NoReturn:
    """Run `do` in a fresh fork as `user`, and end with it, whatever happens."""
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user[1])
            os.setuid(user[0])
        set_dumpable(True)
        die_with_parent(signal.SIGKILL, parent)
        do()
    except BaseException as error:  # noqa: BLE001  # a forked child must not return into its parent's code
        with contextlib.suppress(OSError):
            os.write(2, f"bench.fence: {error!r}\n".encode())
    finally:
        os._exit(1)


def _exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := os.read(fd, size - len(data))):
            raise RuntimeError("a child ended before its time")
        data += piece
    return data


def _table(done: list[Round]) -> str:
    lines = [f"{'way to die':<12}{'rounds':>8}{'off':>8}{'median':>10}{'p99':>10}{'max':>10}  ms"]
    for mode in (*MODES, "all"):
        rounds = [r for r in done if mode in ("all", r.mode)]
        if rounds:
            ms = sorted(r.ms for r in rounds)
            figures = (ms[len(ms) // 2], ms[math.ceil(len(ms) * 0.99) - 1], ms[-1])
            off = sum(r.off for r in rounds)
            lines.append(f"{mode:<12}{len(rounds):>8}{off:>8}" + "".join(f"{f:>10.2f}" for f in figures))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 0 if every round turned the node off."""
    parser = argparse.ArgumentParser(prog="bench.fence", description="Kill the actuator; does the node turn off?")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--user", metavar="UID:GID", help="be this user in both processes (needs root)")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: /dev/shm if there is one)")
    parser.add_argument("--json", action="store_true", help="one object per round instead of the table")
    options = parser.parse_args(argv)
    user = None
    if options.user:
        uid, gid = options.user.split(":")
        user = (int(uid), int(gid))
    shm = Path("/dev/shm")
    folder = options.folder or (shm if os.access(shm, os.W_OK) else None)
    base = Path(tempfile.mkdtemp(prefix="fence-", dir=folder))
    try:
        done = list(measure(options.rounds, base, user))
        place = "memory" if filesystem_is_memory(base) else "disk"
    finally:
        shutil.rmtree(base)
    bad = [r for r in done if not r.off]
    if options.json:
        for r in done:
            print(json.dumps({"mode": r.mode, "off": r.off, "found": r.found, "ms": r.ms}))
    else:
        print(f"Linux {platform.release()}, {os.cpu_count()} CPUs, uid {(user or (os.getuid(),))[0]}, files in {place}")
        print(_table(done))
        reaped = sum("ESRCH" in r.found for r in done)
        print(f"{len(done)} rounds, {len(done) - len(bad)} off; {reaped} looks fell into the reaping (ESRCH)")
    for r in bad:
        print(f"NOT OFF: {r.mode}: the node found {r.found or 'no signal'}", file=sys.stderr)
    return 1 if bad or not done else 0


if __name__ == "__main__":
    sys.exit(main())
