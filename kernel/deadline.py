"""A deadline that the kernel enforces on this process with SIGKILL (timer_create(2)).

SIGKILL needs nobody awake: a process that hangs, is swapped out or was stopped with SIGSTOP dies at its deadline
all the same.  The timer counts on CLOCK_BOOTTIME, so after a suspended machine wakes, an overdue one fires at once.
The structures are those of 64-bit Linux.
"""

from __future__ import annotations

import ctypes
import signal
from typing import Final

from kernel.libc import Itimerspec, Timespec, call, once_at

_CLOCK_BOOTTIME: Final = 7
_TIMER_ABSTIME: Final = 1
_SIGEV_SIGNAL: Final = 0


class _Sigevent(ctypes.Structure):
    """struct sigevent, 64 bytes on 64-bit Linux: value, signal, kind, padding."""

    _fields_ = (
        ("sigev_value", ctypes.c_void_p),
        ("sigev_signo", ctypes.c_int),
        ("sigev_notify", ctypes.c_int),
        ("_rest", ctypes.c_byte * 48),
    )


class DeathTimer:
    """One timer of this process.  Not inherited over fork; deleted over exec (timer_create(2))."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._id = ctypes.c_void_p()
        event = _Sigevent(None, signal.SIGKILL, _SIGEV_SIGNAL)
        call("timer_create", ctypes.c_int(_CLOCK_BOOTTIME), ctypes.byref(event), ctypes.byref(self._id))
        self._open = True

    def arm(self, deadline_ns: int) -> None:
        """Die at this instant of CLOCK_BOOTTIME (ns), at once if it has passed.  Replaces an earlier deadline."""
        self._set(once_at(deadline_ns))

    def disarm(self) -> None:
        """No deadline any more.  Harmless when there was none."""
        self._set(Itimerspec(Timespec(0, 0), Timespec(0, 0)))

    def remaining_ns(self) -> int:
        """ns until the deadline; 0 when disarmed."""
        self._insist_on_open()
        setting = Itimerspec()
        call("timer_gettime", self._id, ctypes.byref(setting))
        return int(setting.it_value.tv_sec) * 1_000_000_000 + int(setting.it_value.tv_nsec)

    def close(self) -> None:
        """Delete the timer, armed or not.  A second call does nothing."""
        if self._open:
            self._open = False
            call("timer_delete", self._id)

    def _set(self, setting: Itimerspec) -> None:
        self._insist_on_open()
        call("timer_settime", self._id, ctypes.c_int(_TIMER_ABSTIME), ctypes.byref(setting), None)

    def _insist_on_open(self) -> None:
        """The kernel gives a deleted timer's number to the next one: never touch a stranger's deadline."""
        if not self._open:
            raise ValueError("this DeathTimer is closed")
