"""Takes memory in the cgroup of a container until its limit makes the kernel kill one of its processes.

    hog.py PID

PID: the process that the kernel is to prefer, as it would the one that leaks.  Ends when that one is dead.  Needs root.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

PATIENCE_S = 30


def memory_cgroup(pid: str) -> Path:
    """The folder of its memory controller, in both versions of cgroups.  Raises LookupError."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        for folder in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
            found = folder / path.lstrip("/")
            if controllers in ("", "memory") and any(
                (found / limit).exists() for limit in ("memory.limit_in_bytes", "memory.max")
            ):
                return found
    raise LookupError(f"process {pid} has no memory cgroup")


def main() -> None:
    victim = sys.argv[1]
    signal.alarm(PATIENCE_S)
    (memory_cgroup(victim) / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    Path(f"/proc/{victim}/oom_score_adj").write_text("1000", encoding="ascii")
    eaten = []
    while _lives(victim):
        eaten.append(b"x" * (1 << 20))
    print(f"{len(eaten)} MiB")


def _lives(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


if __name__ == "__main__":
    main()
