"""What a process asks of the kernel about itself (prctl(2), setrlimit(2), statfs(2))."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Final

from kernel.libc import call

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_MEMORY_FILESYSTEMS: Final = frozenset({"tmpfs", "ramfs"})


def _prctl(option: int, value: int | bytes) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    call("prctl", ctypes.c_int(option), argument, zero, zero, zero)


def die_with_parent(sig: signal.Signals, parent: int) -> None:
    """Have the kernel send `sig` to us when the thread that started us ends; at once if `parent` is gone already.

    The setting survives exec, not fork.  `parent` is the pid we expect to be our parent's.
    """
    _prctl(_PR_SET_PDEATHSIG, int(sig))
    if os.getppid() != parent:
        os.kill(os.getpid(), sig)


def set_dumpable(dumpable: bool) -> None:
    """Whether others of our uid may look into our /proc files.  The node must be able to follow our cwd."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def set_name(name: str) -> None:
    """The name that ps and top show; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, os.fsencode(name)[:15])


def no_core_dumps() -> None:
    """A dump could hold keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def filesystem_is_memory(path: Path) -> bool:
    """Whether what is written to `path` stays in memory (tmpfs, ramfs).  Raises OSError if it does not exist."""
    target = path.stat().st_dev
    device = f"{os.major(target)}:{os.minor(target)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        fields, _, tail = line.partition(" - ")
        if fields.split()[2] == device and tail.split()[0] in _MEMORY_FILESYSTEMS:
            return True
    return False
