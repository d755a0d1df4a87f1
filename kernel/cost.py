"""What this process costs, as the kernel counts it for the process itself.

A process that is not dumpable can be looked into by nobody else of its user, so each measures itself: its own /proc
folder stays open to it.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

_PSS: Final = re.compile(rb"^Pss:\s+(\d+) kB$", re.MULTILINE)


def cpu_ns() -> int:
    """CPU time of all threads since the process began, in user and kernel mode (CLOCK_PROCESS_CPUTIME_ID)."""
    return time.process_time_ns()


def memory_bytes() -> int:
    """Proportional set size (proc_pid_smaps_rollup(5)), in bytes; 0: this kernel does not tell it."""
    try:
        found = _PSS.search(Path("/proc/self/smaps_rollup").read_bytes())
    except OSError:  # no such file (gVisor, kernels without it), or a /proc that is closed even to ourselves
        return 0
    return int(found[1]) * 1024 if found else 0


def open_files() -> int:
    """Descriptors, but for the one that counting takes; 0: this kernel does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  # names are all that is needed
    except OSError:
        return 0
