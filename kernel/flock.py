"""A lock for the life of a process: flock(2) on a file, kept over exec."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class AlreadyHeld(RuntimeError):  # noqa: N818  # a state of the world, named as such
    """Somebody else holds the lock.  `pid` is what the holder wrote into the file; 0: unknown."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"in use by another forge-manager (pid {pid or 'unknown'})")
        self.pid = pid


def hold(path: Path) -> int:
    """Take the lock and keep it until this process, what it execs, and every child that inherits it have ended.

    Answers the descriptor, which is inheritable on purpose: a successor shall not start beside what is left of us.
    A pid written by another pid namespace means nothing here.  Raises AlreadyHeld, OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(fd, 32).strip()
            raise AlreadyHeld(int(text) if text.isdigit() else 0) from None
        # Not by the descriptor that stays open: a closed sandbox shall hold nothing that can be written to.
        writing = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(writing, f"{os.getpid()}\n".encode("ascii"))
        except OSError as error:  # no room: a write does not name its file, and people need the name
            raise OSError(error.errno, error.strerror, str(path)) from None
        finally:
            os.close(writing)
        os.set_inheritable(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd
