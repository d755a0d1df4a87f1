"""Many clusters of a pool, and many pools, on one coordination API: how the cost and the time to agree grow.

    python -m bench.clusters [--clusters 1,5,10,25,50] [--pools 10] [--seconds 60] [--rounds 3] [--real-server]

`bench.arbiters` says what runs and what is a stand-in.  Requests, events and bytes are those of the coordination API
alone, an embedded server in a process of its own or a real one; each cluster's own API is another process.  A time is
from the wish (the start of all, or the write that disables the forging cluster) to the stand-in actuator that is armed:
the node's part, a tenth of a second, comes on top.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from bench.arbiters import NAMESPACE, launched
from bench.cost import cpu_s
from devkit.api.kubeconfig import write_kubeconfig
from devkit.api.server_protocol import ADMIN
from devkit.pod import MemoryFolder
from devkit.realapi.client import AdminClient
from devkit.realapi.server import RealApi

NS: Final = 1_000_000_000
STAGGER_S: Final = 10.0
"""Between the starts of two pools: some hundred arbiters that start at once are too many for one machine."""
REAL: Final = 4
"""Arbiters that are processes of their own: those of the first clusters of the last pool, which forge in turn."""
SETTLE_S: Final = 25.0
PATIENCE_S: Final = 180.0


class Child:
    """A process of `bench.arbiters`, or of another module that speaks like it."""

    def __init__(self, *words: str, module: str = "bench.arbiters") -> None:
        command = launched(sys.executable, "-m", module, *words)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
        )
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            (self.events if "forges" in said else self.answers).put(said)

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str = "tell") -> dict[str, Any]:
        self.say(line)
        return self.answers.get(timeout=PATIENCE_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@dataclass
class Figures:
    """Of one setting; per minute where it says so."""

    pools: int
    clusters: int
    start_s: list[float] = field(default_factory=list)
    disabled_s: list[float] = field(default_factory=list)
    nobody_s: list[float] = field(default_factory=list)
    hand_over_events: float = 0
    hand_over_writes: float = 0
    hand_over_cpu_s: float = 0
    requests: float = 0
    writes: float = 0
    events: float = 0
    mebibytes: float = 0
    server_cpu_s: float = 0
    arbiter_cpu_s: float = 0
    real_cpu_s: float = 0
    real_pss_mib: float = 0


class Setting:
    """Some pools with some clusters each, running."""

    def __init__(self, pools: int, clusters: int, *, real_server: bool = False) -> None:
        self.pools, self.clusters = pools, clusters
        self._stack = contextlib.ExitStack()
        folder = MemoryFolder()
        self._stack.callback(folder.close)
        self.folder = folder.path
        files = {name: self.folder / name for name in ("own", "coordination")}
        own = self._child("serve").answers.get(timeout=60)["url"]
        write_kubeconfig(files["own"], url=own, ca_file=None, token=None, user="u")
        self.server: Child | RealApi
        if real_server:
            self.server = self._stack.enter_context(RealApi())
            self.server.write_kubeconfig(files["coordination"])
            self.admin = AdminClient(self.server.url, self.server.ca_file, self.server.token_for(ADMIN))
        else:
            self.server = self._child("serve")
            url = self.server.answers.get(timeout=60)["url"]
            write_kubeconfig(files["coordination"], url=url, ca_file=None, token=None, user="u")
            self.admin = AdminClient(url, None, None)
        self.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self._where = [f"--{name}={path}" for name, path in files.items()]
        real = [f"{pools - 1}:{cluster}" for cluster in range(clusters)][:REAL]
        self._of_pool: list[list[Child]] = []
        for pool in range(pools):
            names = [f"{pool}:{cluster}" for cluster in range(clusters)]
            rest = [name for name in names if name not in real]
            self._of_pool.append([self._host(rest)] if rest else [])
        self.hosts = [child for children in self._of_pool for child in children]
        self.real = self._host(real, "--real")
        self._of_pool[-1].append(self.real)
        for child in (*self.hosts, self.real):
            child.answers.get(timeout=PATIENCE_S)
        self.forging: dict[str, str] = {}
        """Pool -> the cluster that forges."""

    def _child(self, *words: str) -> Child:
        child = Child(*words)
        self._stack.callback(child.close)
        return child

    def _host(self, names: list[str], *words: str) -> Child:
        return self._child("host", *words, "--folder", str(self.folder), *self._where, *names)

    def close(self) -> None:
        self._stack.close()

    def start(self) -> list[float]:
        """One pool after the other: seconds until each forges."""
        took = []
        for number, children in enumerate(self._of_pool):
            for child in children:
                child.say("start")
            took.append(self._first(f"pool1{number:05d}", time.monotonic_ns()))
            self.settle(STAGGER_S if self.pools > 1 else 0)
        return took

    def changes(self, seconds: float) -> Iterator[tuple[str, str, bool, int]]:
        """Each change of who forges: pool, cluster, whether it does, when; until nothing came for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = []
            for child in (*self.hosts, self.real):
                with contextlib.suppress(queue.Empty):
                    while True:
                        found.append(child.events.get_nowait())
            for event in sorted(found, key=lambda event: int(event["at"])):
                if event["forges"]:
                    self.forging[event["pool"]] = event["cluster"]
                elif self.forging.get(event["pool"]) == event["cluster"]:
                    del self.forging[event["pool"]]
                yield event["pool"], event["cluster"], event["forges"], event["at"]
            time.sleep(0.01)

    def _first(self, of: str, began: int) -> float:
        for pool, _, forges, at in self.changes(PATIENCE_S):
            if forges and pool.startswith(of):
                return (at - began) / NS
        raise TimeoutError(f"{of} does not forge")

    def disable(self) -> tuple[float, float]:
        """Disable the forging cluster of a pool: seconds until the next forges, and in which none did."""
        if not self.forging:
            raise TimeoutError("nobody forges")
        pool, cluster = max(self.forging.items())
        path = f"/apis/cardano.io/v1/namespaces/{NAMESPACE}/cardanoforgeclusters/{cluster}"
        began = off = time.monotonic_ns()
        self.admin.merge(path, {"spec": {"forgeState": "Disabled"}})
        for of, name, forges, at in self.changes(PATIENCE_S):
            if of == pool and name == cluster and not forges:
                off = at
            if of == pool and name != cluster and forges:
                return (at - began) / NS, (at - off) / NS
        raise TimeoutError("no other cluster forges")

    def settle(self, seconds: float) -> None:
        for _ in self.changes(seconds):
            pass


def measure(pools: int, clusters: int, seconds: float, rounds: int, *, real_server: bool = False) -> Figures:
    """One setting from its start to its end."""
    figures, setting = Figures(pools, clusters), Setting(pools, clusters, real_server=real_server)
    try:
        figures.start_s = setting.start()
        setting.settle(SETTLE_S)
        before = _look(setting)
        setting.settle(seconds)
        after = _look(setting)
        minute = 60 / seconds

        def rise(name: str) -> float:
            return (after[name] - before[name]) * minute

        figures.requests, figures.writes, figures.events = rise("requests"), rise("writes"), rise("events")
        figures.mebibytes, figures.server_cpu_s = rise("bytes") / 2**20, rise("server_cpu_s")
        figures.arbiter_cpu_s = rise("hosts_cpu_s") / max(after["in_hosts"], 1)
        figures.real_cpu_s = rise("real_cpu_s")
        figures.real_pss_mib = after["real_pss_kib"] / 1024
        if clusters > rounds > 0:
            _hand_over(figures, setting, rounds)
    finally:
        setting.close()
    return figures


def _hand_over(figures: Figures, setting: Setting, rounds: int) -> None:
    """What a round costs beyond rest."""
    before, began = _look(setting), time.monotonic()
    for _ in range(rounds):
        whole, nobody = setting.disable()
        figures.disabled_s.append(whole)
        figures.nobody_s.append(nobody)
        setting.settle(8)
    after, minutes = _look(setting), (time.monotonic() - began) / 60
    figures.hand_over_events = (after["events"] - before["events"] - minutes * figures.events) / rounds
    figures.hand_over_writes = (after["writes"] - before["writes"] - minutes * figures.writes) / rounds
    figures.hand_over_cpu_s = (after["real_cpu_s"] - before["real_cpu_s"] - minutes * figures.real_cpu_s) / rounds


def _look(setting: Setting) -> dict[str, float]:
    hosts, real = [host.ask() for host in setting.hosts], setting.real.ask()
    server = setting.server
    if isinstance(server, Child):
        told = server.ask()
        requests, sent, cpu = told["requests"], told["sent"], cpu_s(server.pid)
    else:
        requests, sent = server.counts().get(ADMIN, {}), {}
        cpu = sum(cpu_s(child.pid) for child in psutil.Process().children() if "kube-apiserver" in child.cmdline())
    return {
        "requests": sum(requests.values()),
        "writes": sum(requests.get(verb, 0) for verb in ("create", "update", "patch")),
        "events": sent.get("events", 0),
        "bytes": sent.get("bytes", 0),
        "server_cpu_s": cpu,
        "hosts_cpu_s": sum(host["cpu_s"] for host in hosts),
        "in_hosts": sum(host["arbiters"] for host in hosts),
        "real_cpu_s": statistics.mean(each["cpu_s"] for each in real["real"]),
        "real_pss_kib": statistics.mean(each["pss_kib"] for each in real["real"]),
    }


HEAD: Final = (
    "| pools x clusters | start to forging, s | disabled to next, s | nobody forges, s | a hand-over: writes | "
    "events | CPU s of an arbiter | requests/min | of a cluster | "
    "events/min | of an arbiter | MiB/min | server CPU s/min | arbiter CPU s/min (shared, own process) | PSS MiB |"
)


def row(figures: Figures) -> str:
    """A line of the table."""
    count = figures.pools * figures.clusters

    def times(found: list[float]) -> str:
        return f"{statistics.median(found):.2f} (max {max(found):.2f})" if found else "-"

    cells = (
        f"{figures.pools} x {figures.clusters}",
        times(figures.start_s),
        times(figures.disabled_s),
        times(figures.nobody_s),
        f"{figures.hand_over_writes:.0f}" if figures.disabled_s else "-",
        f"{figures.hand_over_events:.0f}" if figures.disabled_s and figures.events else "-",
        f"{figures.hand_over_cpu_s:.2f}" if figures.disabled_s else "-",
        f"{figures.requests:.0f}",
        f"{figures.requests / count:.1f}",
        f"{figures.events:.0f}" if figures.events else "-",
        f"{figures.events / count:.1f}" if figures.events else "-",
        f"{figures.mebibytes:.2f}" if figures.events else "-",
        f"{figures.server_cpu_s:.2f}",
        f"{figures.arbiter_cpu_s:.2f}, {figures.real_cpu_s:.2f}",
        f"{figures.real_pss_mib:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clusters", description=__doc__)
    numbers = "1,5,10,25,50"
    parser.add_argument("--clusters", default=numbers, help=f"of one pool, one setting each (default {numbers})")
    parser.add_argument("--pools", type=int, default=10, help="one setting more: so many pools of the most clusters")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each is watched at rest")
    parser.add_argument("--rounds", type=int, default=3, help="how often the forging cluster is disabled")
    parser.add_argument(
        "--real-server", action="store_true", help="a real kube-apiserver, whose events are not counted"
    )
    chosen = parser.parse_args()
    sizes = [int(word) for word in chosen.clusters.split(",")]
    settings = [(1, size) for size in sizes] + ([(chosen.pools, max(sizes))] if chosen.pools > 1 else [])
    print(HEAD + "\n|" + "---|" * HEAD.count(" | ") + "---|", flush=True)
    for pools, clusters in settings:
        print(row(measure(pools, clusters, chosen.seconds, chosen.rounds, real_server=chosen.real_server)), flush=True)


if __name__ == "__main__":
    main()
