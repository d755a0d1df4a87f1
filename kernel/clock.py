"""CLOCK_BOOTTIME: one host, one clock, which goes on counting while the machine sleeps (clock_gettime(2))."""

from __future__ import annotations

import time


def boottime_ns() -> int:
    """Nanoseconds since boot, time asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
