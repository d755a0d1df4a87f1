"""What a process says of its own cost is what the kernel counts, dumpable or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kernel import cost

PROBE = """
import os, time
from kernel import cost
from kernel.process import set_dumpable
set_dumpable(False)
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(7)]
before = cost.open_files()
more = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
until = time.process_time() + 0.05
while time.process_time() < until:
    pass
ballast = bytearray(os.urandom(1)) * (32 << 20)
print(cost.open_files() - before, cost.cpu_ns() >= 50_000_000, cost.memory_bytes() > 32 << 20)
"""


def test_a_process_that_is_not_dumpable_measures_itself() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "True", "True"], done.stderr


def test_its_share_of_memory_is_no_more_than_all_that_it_maps() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    assert 0 < cost.memory_bytes() < mapped
