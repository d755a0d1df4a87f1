"""What a pod costs at rest: API requests, memory (PSS), processor time, start-up.

    python -m bench.cost [--seconds 60]

Memory is the kernel's own proportional share (smaps_rollup); the pages that several pods of one machine share make it
smaller there than on a machine with one pod, so both are shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devkit.api import EmbeddedApi, SyncApiServer
from devkit.pod import Pod
from devkit.pods import Cluster

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """One pod, over a minute."""

    pod: str
    forging: bool
    requests: float
    pss_kib: dict[str, int]
    cpu_s: dict[str, float]


@contextmanager
def api_server(which: str = "") -> Iterator[tuple[str, SyncApiServer]]:
    """`real` or `embedded`, and its name; unless told, the real one where it can be built.  Raises BuildError."""
    from devkit.realapi.build import BuildError, build, version
    from devkit.realapi.server import RealApi

    try:
        if which == "embedded":
            raise BuildError("chosen")
        build()
        server: SyncApiServer = RealApi()
        name = f"kube-apiserver {version()}"
    except BuildError as error:
        if which == "real":
            raise
        server, name = EmbeddedApi.threaded(), f"embedded API server ({error})"
    server.start_sync()
    try:
        yield name, server
    finally:
        server.stop_sync()


def _names(pod: Pod) -> dict[str, int]:
    """Process name -> pid of the whole tree."""
    return {"supervisord": pod.sidecar_pids()[0], **pod.worker_pids()}


def pss_kib(pid: int) -> int:
    """Proportional set size of a process, KiB (proc_pid_smaps_rollup(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def cpu_s(pid: int) -> float:
    """Seconds of processor time so far, user and system (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def at_rest(cluster: Cluster, seconds: float) -> list[Cost]:
    """Watch the pods of a settled cluster for so long; figures per minute."""
    before = [(pod.api_requests(), {n: cpu_s(p) for n, p in _names(pod).items()}) for pod in cluster.pods]
    time.sleep(seconds)
    costs = []
    forgers = cluster.forgers()
    for pod, (requests, cpu) in zip(cluster.pods, before, strict=True):
        pids = _names(pod)
        costs.append(
            Cost(
                pod=pod.name,
                forging=pod in forgers,
                requests=(pod.api_requests() - requests) * 60 / seconds,
                pss_kib={name: pss_kib(pid) for name, pid in pids.items()},
                cpu_s={name: (cpu_s(pid) - cpu[name]) * 60 / seconds for name, pid in pids.items()},
            )
        )
    return costs


def table(title: str, costs: list[Cost]) -> str:
    """For people; goals beside the figures."""
    lines = [title, f"  {'pod':<8} {'role':<8} {'requests/min':>12} {'PSS MiB':>9} {'CPU s/min':>10}"]
    for cost in costs:
        role, goal = ("leader", 15) if cost.forging else ("standby", 2)
        pss, cpu = sum(cost.pss_kib.values()) / 1024, sum(cost.cpu_s.values())
        lines.append(
            f"  {cost.pod:<8} {role:<8} {cost.requests:>7.1f} <={goal:<3} {pss:>9.1f} {cpu:>10.2f}"
            "   (goals: 130 MiB, 0.5 s)"
        )
        parts = ", ".join(
            f"{name} {cost.pss_kib[name] / 1024:.1f} MiB {cost.cpu_s[name]:.2f} s" for name in sorted(cost.pss_kib)
        )
        lines.append(f"           {parts}")
    return "\n".join(lines)


def report(seconds: float) -> str:
    """One pod alone, then three, on one API server."""
    sheets = []
    with api_server() as (name, api):
        for count in (1, 3):
            began = time.monotonic()
            with Cluster(api, count, namespace=f"cost-{count}") as cluster:
                cluster.wait_healthy(120)
                started = time.monotonic() - began
                time.sleep(10)
                title = f"{count} pod{'s' * (count > 1)} on the {name}; healthy {started:.1f} s after the start"
                sheets.append(table(title, at_rest(cluster, seconds)))
    return "\n".join(sheets)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(prog="python -m bench.cost")
    parser.add_argument("--seconds", type=float, default=60.0)
    print(report(parser.parse_args().seconds))
