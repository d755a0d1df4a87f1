"""Memory and descriptors of every process of the pods, over the whole campaign: is the end as the beginning was?

PSS is the kernel's proportional share (smaps_rollup): what a process costs, with what it shares divided among those
who share it.  Workers are killed all the time, so one process tells little: all of a kind are compared, in the first
quarter of the time and in the last.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devkit.pods import Pod

EVERY_S: Final = 10.0
LOOKS: Final = 500
"""In a long campaign one looks so often, not more."""
ENOUGH: Final = 40
"""Samples of a kind in a quarter, from which on a drift is a finding: fewer are of too few lives."""
PSS_DRIFT: Final = 1.25
PSS_DRIFT_KIB: Final = 2048
FDS_DRIFT: Final = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one time."""

    at_s: float
    pod: str
    kind: str
    pss_kib: int
    fds: int


@dataclass(frozen=True, slots=True)
class Drift:
    """One kind of process: medians of the first quarter and of the last."""

    kind: str
    samples: int
    pss_first_kib: float
    pss_last_kib: float
    pss_max_kib: int
    fds_first: float
    fds_last: float
    fds_max: int

    @property
    def leaks(self) -> bool:
        """Enough was seen, and the end is not as the beginning."""
        if self.samples < 4 * ENOUGH:
            return False
        return (
            self.pss_last_kib > self.pss_first_kib * PSS_DRIFT + PSS_DRIFT_KIB
            or self.fds_last > self.fds_first + FDS_DRIFT
        )


def drifts(samples: Sequence[Sample]) -> list[Drift]:
    """By kind.  A quarter is one of the time from the first sample of all to the last."""
    if not samples:
        return []
    begin, end = min(s.at_s for s in samples), max(s.at_s for s in samples)
    early, late = begin + (end - begin) / 4, end - (end - begin) / 4
    found = []
    for kind in sorted({sample.kind for sample in samples}):
        mine = [sample for sample in samples if sample.kind == kind]
        first = [sample for sample in mine if sample.at_s <= early] or mine[:1]
        last = [sample for sample in mine if sample.at_s >= late] or mine[-1:]
        found.append(
            Drift(
                kind,
                len(mine),
                statistics.median(sample.pss_kib for sample in first),
                statistics.median(sample.pss_kib for sample in last),
                max(sample.pss_kib for sample in mine),
                statistics.median(sample.fds for sample in first),
                statistics.median(sample.fds for sample in last),
                max(sample.fds for sample in mine),
            )
        )
    return found


def look(pid: int) -> tuple[int, int] | None:
    """PSS in KiB and open descriptors (proc_pid_smaps_rollup(5), proc_pid_fd(5)); None: it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        pss = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return pss, len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # names are not needed
    except (OSError, StopIteration):
        return None


class Sampler:
    """Looks at all processes of the pods every ten seconds, or less often, in a thread of its own."""

    def __init__(self, pods: Iterable[Pod], zero: int, minutes: float) -> None:
        """zero: CLOCK_MONOTONIC, ns; what `at_s` counts from."""
        self.samples: list[Sample] = []
        self.every_s = max(EVERY_S, minutes * 60 / LOOKS)
        self._pods, self._zero = list(pods), zero
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(self.every_s):
            for pod in self._pods:
                with contextlib.suppress(OSError):
                    self._sample(pod)

    def _sample(self, pod: Pod) -> None:
        pids = pod.worker_pids()
        tree = pod.sidecar_pids()
        if tree:
            pids["supervisord"] = tree[0]
        at_s = round((time.monotonic_ns() - self._zero) / 1e9, 3)
        for kind, pid in pids.items():
            found = look(pid)
            if found is not None and found[0] > 0:
                self.samples.append(Sample(at_s, pod.name, kind, *found))

    def close(self) -> None:
        self._end.set()
        self._thread.join(10)


PRESSURE: Final = Path("/proc/pressure/cpu")


class Pressure:
    """How much of a time something on the machine waited for a processor, as the kernel counts it (PSI)."""

    def __init__(self, file: Path = PRESSURE) -> None:
        self._file = file
        self._last = self._look()

    def _look(self) -> tuple[float, float | None]:
        """Now, and the seconds in all in which something waited; None: this kernel does not count them."""
        now = time.monotonic()
        try:
            some = next(line for line in self._file.read_text().splitlines() if line.startswith("some "))
            return now, int(some.rpartition("total=")[2]) / 1e6
        except (OSError, StopIteration, ValueError):
            return now, None

    def share(self) -> float:
        """Of the time since the last call: 0 to 1.  Where the kernel does not count, by the load that exceeds it."""
        (began, before), (now, after) = self._last, self._look()
        self._last = now, after
        if before is None or after is None:
            return min(1.0, max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1) - 1.0))
        return min(1.0, (after - before) / (now - began)) if now > began else 0.0


def left_behind(folder: Path) -> list[str]:
    """Processes that name the folder in their arguments or their environment.  When it is gone, none should."""
    needle, found = os.fsencode(folder), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # ended, or another user's
            command = (entry / "cmdline").read_bytes()
            if needle in command or needle in (entry / "environ").read_bytes():
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace').strip()}")
    return found
