"""Notices that the wall clock was set: a resumed or migrated machine, or a hand on the clock (timerfd_create(2)).

A timerfd on CLOCK_REALTIME with TFD_TIMER_CANCEL_ON_SET becomes readable, with ECANCELED, when the distance between
the wall clock and CLOCK_MONOTONIC changes (fs/timerfd.c, timerfd_clock_was_set): a clock that was set, a leap
second, a machine that slept.  Slewing (NTP's gentle correction) does not count.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import Final

from kernel.libc import call, once_at

_TFD_TIMER_ABSTIME: Final = 1
_TFD_TIMER_CANCEL_ON_SET: Final = 2
_FAR_S: Final = 10 * 365 * 86400


class WallClockWatch:
    """`fileno()` becomes readable after a jump; `jumped()` then says so once."""

    def __init__(self) -> None:
        """Watches from now on.  Raises OSError."""
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = call("timerfd_create", ctypes.c_int(time.CLOCK_REALTIME), ctypes.c_int(flags))
        self._arm()

    def fileno(self) -> int:
        return self._fd

    def jumped(self) -> bool:
        """Whether the clock was set since the last call; watches on.  Never blocks.  Raises OSError."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._arm()
        return True

    def close(self) -> None:
        os.close(self._fd)

    def _arm(self) -> None:
        setting = once_at((int(time.time()) + _FAR_S) * 1_000_000_000)
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        try:
            call("timerfd_settime", ctypes.c_int(self._fd), ctypes.c_int(flags), ctypes.byref(setting), None)
        except OSError as error:
            # Set between our last look and this call: the timer is armed all the same (fs/timerfd.c, timerfd_setup).
            if error.errno != errno.ECANCELED:
                raise
