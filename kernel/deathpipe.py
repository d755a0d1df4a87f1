"""A signal that the kernel sends to another process when this one dies, whatever it dies of.

A pipe whose reading end has O_ASYNC, an owner (F_SETOWN) and a signal (F_SETSIG, fcntl(2)): when the last writing
end is closed while the reading end still stands, the kernel signals the owner (fs/pipe.c: pipe_release calls
kill_fasync for the readers).  Nobody has to be awake for it, and nothing is ever written.

Why it works for the fence, in the order of kernel/exit.c, do_exit:
1. exit_files puts every open file on the task's work list; nothing is closed yet;
2. exit_fs lets go of the working directory: from here on /proc/<our pid>/cwd answers ENOENT (`kernel.cwdstage`);
3. exit_task_work closes the files: only now is the signal sent, so whoever gets it finds ENOENT;
4. exit_notify: our parent can reap us, so a reaped process has sent what it had to send.
The work list runs last in, first out (it was the other way round once), so which end of a pipe closes first depends
on their numbers.  Hence two pipes, one in each order: one of them fires.  If both do, a pending SIGHUP is one SIGHUP.

The signal is checked against the uid and effective uid that called F_SETOWN, at the time it is sent
(fs/fcntl.c, sigio_perm): the same uid as the receiver, or root.  A refused signal is dropped without an error.
The owner is held as a process, not as a number: a reused pid is never signalled.

Both ends live in this process only: close-on-exec, and a forked child that goes on without exec would hold our
writing ends open and keep the kernel silent until it ends too.  An exec of our own would send the signal while the
working directory stays: whoever holds this must never exec.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from typing import Final

_F_SETSIG: Final = 10


class DeathSignal:
    """Aims SIGHUP at one process; fires when we die, or never."""

    def __init__(self) -> None:
        """Aimed at nobody.  Raises OSError."""
        self._pairs: tuple[tuple[int, int], ...] = (_pipe(writer_higher=True), _pipe(writer_higher=False))
        self.aimed_at = 0
        """The pid that our death signals; 0: nobody."""

    def aim(self, pid: int) -> None:
        """From now on our death sends SIGHUP to `pid`, and to no earlier one.

        Raises OSError (ESRCH: no such process), and the aim stays as it was; ValueError unless `pid` is a process's.
        """
        if pid <= 0:  # to fcntl, 0 is nobody and a negative number is a process group
            raise ValueError(f"{pid} is not a process id")
        try:
            self._own(pid)
        except OSError:
            with contextlib.suppress(ProcessLookupError):  # the former one is gone too: nobody to signal
                self._own(self.aimed_at)
            raise
        for reader, _ in self._pairs:
            fcntl.fcntl(reader, _F_SETSIG, signal.SIGHUP)
            fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)
        self.aimed_at = pid

    def disarm(self) -> None:
        """Our death signals nobody.  Harmless when it was so already."""
        for reader, _ in self._pairs:
            fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) & ~os.O_ASYNC)
        self._own(0)
        self.aimed_at = 0

    def close(self) -> None:
        """Give the pipes back without a signal: disarmed first, and each reading end closed before its writing end."""
        self.disarm()
        for reader, writer in self._pairs:
            os.close(reader)
            os.close(writer)
        self._pairs = ()

    def _own(self, pid: int) -> None:
        for reader, _ in self._pairs:
            fcntl.fcntl(reader, fcntl.F_SETOWN, pid)


def _pipe(*, writer_higher: bool) -> tuple[int, int]:
    """(reading end, writing end) with the wanted order of their numbers."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    if writer_higher and writer < reader:
        writer = _move_above(writer, reader)
    elif not writer_higher and reader < writer:
        reader = _move_above(reader, writer)
    return reader, writer


def _move_above(fd: int, other: int) -> int:
    higher = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, other + 1)
    os.close(fd)
    return higher
