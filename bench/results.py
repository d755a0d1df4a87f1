"""What a run leaves behind: its figures as JSON, with the command, the machine, the versions, and who else was at work.

`bench.report` makes tables and plots of it.  Figures of a machine that others kept busy say so themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

FOLDER: Final = Path(__file__).with_name("results")
BUSY: Final = 0.25
"""Processors that others use: with more the figures are called disturbed."""

Json = dict[str, Any]


def _busy_s() -> float:
    """Seconds of processor time that this machine has spent on anything; stolen time is somebody's too."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def _ours_s() -> float:
    """Of this process and all that it started: what runs, and what those who run have reaped."""
    total = 0.0
    us = psutil.Process()
    for process in (us, *us.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def waited_share() -> float:
    """Of the time in which what we started and still runs wanted a processor: the part in which it waited for one.

    By the scheduler's own account of every thread (schedstat); 0.0 where the kernel keeps none.
    """
    ran = waited = 0
    us = psutil.Process()
    for process in (us, *us.children(recursive=True)):
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError):  # a thread that has just ended
                on, wait, _ = map(int, file.read_text().split())
                ran, waited = ran + on, waited + wait
    return waited / (ran + waited) if ran + waited else 0.0


@dataclass
class Machine:
    """Of this run: made at its beginning, `facts` taken before what it started is gone."""

    began: float = field(default_factory=time.monotonic)
    load: tuple[float, float, float] = field(default_factory=os.getloadavg)
    _busy: float = field(default_factory=_busy_s)
    _ours: float = field(default_factory=_ours_s)

    def facts(self) -> Json:
        """For the head of the results."""
        seconds = time.monotonic() - self.began
        others = max((_busy_s() - self._busy) - (_ours_s() - self._ours), 0.0) / seconds
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "seconds": round(seconds),
            "load": [[round(each, 1) for each in load] for load in (self.load, os.getloadavg())],
            "others_cpus": round(others, 2),
            "waited_share": round(waited_share(), 3),
            "niceness": os.nice(0),
        }


def command(module: str, words: Sequence[str] | None = None) -> str:
    """As it was given (`words`: sys.argv's), without the place of the results."""
    words = sys.argv[1:] if words is None else words
    kept = [word for word, before in zip(words, ["", *words], strict=False) if "--out" not in (word, before)]
    return shlex.join(["python", "-m", module, *kept])


def write(path: Path, results: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def read(name: str) -> Json:
    """The results of that name as they are in the repository."""
    found: Json = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found
