"""A signal that the kernel sends to another process when this one dies, whatever it dies of.

A pipe whose reading end has O_ASYNC, an owner (F_SETOWN) and a signal (F_SETSIG): when the last writing end is
closed, the kernel signals the owner (fcntl(2); fs/pipe.c: pipe_release wakes the fasync readers).  A dying process
closes its files as task work, the last closed first, so the writing end must go while the reading end still
stands; which of them goes first depends on their numbers, hence two pipes, one in each order.

Both ends live in this process only: close-on-exec, and never passed over a fork that goes on living.
Permission is checked when the signal is sent, against the user who called F_SETOWN: the same uid, or root.
The owner is held as a process, not as a number: a reused pid is never signalled.
"""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Final

_F_SETSIG: Final = 10


class DeathSignal:
    """Aims SIGHUP at one process; fires when we die, or never."""

    def __init__(self) -> None:
        self._pairs = (self._pipe(writer_higher=True), self._pipe(writer_higher=False))
        self.aimed_at = 0

    @staticmethod
    def _pipe(*, writer_higher: bool) -> tuple[int, int]:
        """(reading end, writing end) with the wanted order of their numbers."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        if (writer > reader) != writer_higher:
            higher = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, max(reader, writer) + 1)
            os.close(reader)
            reader = higher
        return reader, writer

    def aim(self, pid: int) -> None:
        """From now on our death sends SIGHUP to `pid`.  Raises OSError (ESRCH: no such process)."""
        for reader, _ in self._pairs:
            fcntl.fcntl(reader, _F_SETSIG, signal.SIGHUP)
            fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
            flags = fcntl.fcntl(reader, fcntl.F_GETFL)
            fcntl.fcntl(reader, fcntl.F_SETFL, flags | os.O_ASYNC)
        self.aimed_at = pid

    def disarm(self) -> None:
        """Our death signals nobody."""
        for reader, _ in self._pairs:
            flags = fcntl.fcntl(reader, fcntl.F_GETFL)
            fcntl.fcntl(reader, fcntl.F_SETFL, flags & ~os.O_ASYNC)
            fcntl.fcntl(reader, fcntl.F_SETOWN, 0)
        self.aimed_at = 0

    def close(self) -> None:
        """Give the pipes back without a signal."""
        self.disarm()
        for reader, writer in self._pairs:
            os.close(reader)
            os.close(writer)
