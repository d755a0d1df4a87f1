"""What the fence needs of the kernel, tried: each answers why it cannot be had, or nothing.

A seccomp profile older than the kernel refuses what it does not know, with EPERM or ENOSYS (Docker before 20.10 did so
with pidfds).
"""

from __future__ import annotations

import os
import signal

from kernel.deadline import DeathTimer
from kernel.deathpipe import DeathSignal


def pidfd() -> str:
    """Whether a process can be held and signalled without its pid."""
    try:
        held = os.pidfd_open(os.getpid())
    except OSError as error:
        return f"processes cannot be held by pidfd: {error.strerror}"
    try:
        signal.pidfd_send_signal(held, 0)
    except OSError as error:
        return f"processes cannot be signalled by pidfd: {error.strerror}"
    finally:
        os.close(held)
    return ""


def death_timer() -> str:
    """Whether the kernel can be told when to kill us."""
    try:
        DeathTimer().close()
    except OSError as error:
        return f"no timer on CLOCK_BOOTTIME: {error.strerror}"
    return ""


def death_signal() -> str:
    """Whether it can be told whom to signal when we die."""
    try:
        DeathSignal().close()
    except OSError as error:
        return f"the kernel would not signal for us: {error.strerror}"
    return ""
