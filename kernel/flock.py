"""A lock for the life of a process: flock(2) on a file, kept over exec."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class AlreadyHeld(RuntimeError):  # noqa: N818  # a state of the world, named as such
    """Somebody else holds the lock."""


def hold(path: Path) -> int:
    """Take the lock and keep it until this process (or what it execs) ends; the descriptor.

    Raises AlreadyHeld with the holder's pid, OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = ""
        with contextlib.suppress(UnicodeDecodeError):
            holder = os.read(fd, 32).decode("ascii").strip()
        os.close(fd)
        raise AlreadyHeld(f"in use by another forge-manager (pid {holder or 'unknown'})") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    os.set_inheritable(fd, True)
    return fd
