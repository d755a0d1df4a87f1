"""CLOCK_BOOTTIME: one host, one clock, which goes on counting while the machine sleeps (clock_gettime(2))."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boottime_ns() -> int:
    """Nanoseconds since boot, time asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def bent_by(over_s: float = 0.1) -> float:
    """By which share CLOCK_BOOTTIME runs faster than the machine's oscillator, now: what a time service makes of it.

    Negative: slower.  Sleeps for so long, and is exact to some millionths where nothing else wants the processor.
    """
    bent, raw = _both()
    time.sleep(over_s)
    bent_later, raw_later = _both()
    return (bent_later - bent) / (raw_later - raw) - 1


def _both() -> tuple[int, int]:
    """CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW at one instant (ns): of some looks the one that took the least time."""

    def look() -> tuple[int, int, int]:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        bent = boottime_ns()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        return after - before, bent, (before + after) // 2

    _, bent, raw = min(look() for _ in range(8))
    return bent, raw


def boot_id() -> str:
    """Which boot `boottime_ns` counts from (random(4)): an instant written down in another one means nothing."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def delay_s(deadline_ns: int) -> float:
    """Seconds from now until a boottime instant, 0.0 if it has passed: what asyncio's call_later and timeout take.

    asyncio counts on CLOCK_MONOTONIC, which stands still while the machine sleeps: after a sleep such a call comes
    late.  Whatever must not be late needs `kernel.deadline` or a second look at `boottime_ns`.
    """
    return max(deadline_ns - boottime_ns(), 0) / 1_000_000_000
