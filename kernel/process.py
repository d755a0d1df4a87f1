"""What a process asks of the kernel about itself (prctl(2), setrlimit(2), statfs(2))."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import stat
from pathlib import Path
from typing import Final

from kernel.libc import LIBC, call

SUPERVISOR_PID: Final = "FORGE_SUPERVISOR_PID"
"""Environment variable by which forge-manager tells the workers whose children they are."""

_F_SETSIG: Final = 10
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_MEMORY_FILESYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
_REMOTE_FILESYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre", "gfs2", "ocfs2", "orangefs", "beegfs"}
)


def prctl(option: int, value: int | bytes) -> None:
    """prctl(2) with one argument.  Raises OSError."""
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    call("prctl", ctypes.c_int(option), argument, zero, zero, zero)


def die_with_parent(sig: signal.Signals, parent: int) -> None:
    """Have the kernel send `sig` to us when the *thread* that started us ends; at once if `parent` is gone already.

    The setting survives exec, but neither fork nor a change of our credentials (PR_SET_PDEATHSIG(2const)).
    `parent` is the pid we expect to be our parent's.
    """
    prctl(_PR_SET_PDEATHSIG, int(sig))
    if os.getppid() != parent:
        os.kill(os.getpid(), sig)


def die_with_supervisor() -> None:
    """Have the kernel kill us when supervisord ends, also where it may not signal us (another uid, no CAP_KILL).

    supervisord holds the writing end of the pipe that is our standard input.  When it ends, the kernel closes it and,
    since we ask for it, sends SIGKILL to the owner of the reading end: ourselves, under our own credentials
    (fcntl(2), F_SETOWN, F_SETSIG).  Does nothing where standard input is no pipe.
    """
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it has ended already: nothing is ever written there
        os.kill(os.getpid(), signal.SIGKILL)


def set_dumpable(dumpable: bool) -> None:
    """Whether others of our uid may look into our /proc files.  The node must be able to follow our cwd.

    A change of uid or gid takes it away (PR_SET_DUMPABLE(2const)): set it after that.
    """
    prctl(_PR_SET_DUMPABLE, int(dumpable))


def set_name(name: str) -> None:
    """The name that ps and top show; the kernel keeps 15 bytes."""
    prctl(_PR_SET_NAME, os.fsencode(name)[:15])


def no_core_dumps() -> None:
    """A dump could hold keys.  Inherited by children.

    A limit of 0 forbids core files only; where the host pipes dumps to a program (core(5)), it is a limit of 1 byte
    that stops the kernel (fs/coredump.c: its guard against recursion), and no core file is that small either.
    Where only 0 is allowed, a filter of 0 leaves our memory out of the dump.
    """
    _, highest = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 0 if highest == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    with contextlib.suppress(OSError):  # /proc/self may be closed to a process that is not dumpable; the limit holds
        Path("/proc/self/coredump_filter").write_text("0", encoding="ascii")


def give_back_memory() -> None:
    """Return what imports left unused in the C heap to the system (malloc_trim(3), glibc); musl has no such call."""
    trim = getattr(LIBC, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def filesystem_is_memory(path: Path) -> bool:
    """Whether what is written to `path` stays in memory (tmpfs, ramfs), or in swap where the host has any.

    Raises OSError if the path does not exist.
    """
    return not _MEMORY_FILESYSTEMS.isdisjoint(_filesystems(path))


def filesystem_may_hang(path: Path) -> str:
    """The kind of file system of `path`, if somebody beyond this kernel answers for it; empty: nobody does.

    Who waits for one that does not answer may be beyond SIGKILL (proc_pid_stat(5), state D).
    Raises OSError if the path does not exist.
    """
    kinds = _filesystems(path)
    return next((kind for kind in kinds if kind in _REMOTE_FILESYSTEMS or kind.startswith("fuse")), "")


def _filesystems(path: Path) -> list[str]:
    """By device number in mountinfo (proc_pid_mountinfo(5)): one device may be mounted several times."""
    target = path.stat().st_dev
    device = f"{os.major(target)}:{os.minor(target)}"
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    parts = (line.partition(" - ") for line in lines)
    return [tail.split()[0] for fields, _, tail in parts if fields.split()[2] == device]
