"""How the cost and the take-over grow with the pods of one pool, and with the pools, on one real API server.

    python -m bench.scaling [--whole 2,5,10,20] [--pods 2,20,200] [--pools 1,20,100,200] [--seconds 20] [--watches 250]

Three series.  `whole`: whole pods as in `devkit.pods`, as many as fit the machine.  `pods`: electors and arbiters of
one pool, real code in shared processes (`bench.electors` says what is not real).  `pools`: the same, many pools of two
pods each.  For each size: requests and the API server's processor time a minute at rest; seconds without a leader when
the leader stops in order, and when it vanishes (with whole pods: SIGKILL to its processes).
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from bench import report, results
from bench.clusters import Child
from bench.cost import cpu_s, pss_kib
from bench.figures import mean, per_minute
from devkit.api.server_protocol import ADMIN
from devkit.gobuild import BuildError
from devkit.pod import MemoryFolder
from devkit.pods import Cluster
from devkit.realapi.build import build, version
from devkit.realapi.client import AdminClient
from devkit.realapi.server import RealApi

NAMESPACE: Final = "bench"
SERIES: Final = ("whole", "pods", "pools")
IN_A_PROCESS: Final = 50
SETTLE_S: Final = 8.0
PATIENCE_S: Final = 120.0
NS: Final = 1_000_000_000


@dataclass
class Row:
    """One size.  Per minute, where it is a rate."""

    pools: int
    pods: int
    """Of each pool."""
    start_s: float = 0
    """From the start of all until each pool has a leader."""
    requests: float = 0
    """Of all pods."""
    server_cpu_s: float = 0
    """kube-apiserver and etcd."""
    pod_cpu_s: float = 0
    pod_pss_mib: float = 0
    stopped_s: list[float] = field(default_factory=list)
    """Nobody led, after the leader stopped in order."""
    vanished_s: list[float] = field(default_factory=list)
    writes: float = 0
    """That one such hand-over cost beyond rest: attempts to take the lease among them."""


def _server_cpu_s(api: RealApi) -> float:
    return sum(cpu_s(pid) for pid in api.pids.values())


# --- whole pods ---


def whole(api: RealApi, count: int, seconds: float, rounds: int) -> Row:
    """Real pods of one pool.  Raises TimeoutError."""
    row = Row(1, count)
    with Cluster(api, count, namespace=f"whole-{count}") as cluster:
        cluster.wait_for_one_forger(PATIENCE_S + 10 * count)
        row.start_s = round((time.monotonic_ns() - cluster.began) / NS, 2)
        cluster.wait_healthy(PATIENCE_S + 10 * count)
        time.sleep(SETTLE_S)

        def look() -> tuple[float, float, float]:
            pids = [pid for pod in cluster.pods for pid in pod.sidecar_pids()]
            requests = sum(sum(proxy.counts.values()) for proxy in cluster.proxies)
            return requests, _server_cpu_s(api), sum(map(cpu_s, pids)) / count

        before, began = look(), time.monotonic()
        time.sleep(seconds)
        after, took = look(), time.monotonic() - began
        rates = [per_minute(a, b, took) for a, b in zip(before, after, strict=True)]
        row.requests, row.server_cpu_s, row.pod_cpu_s = rates
        row.pod_pss_mib = mean(sum(map(pss_kib, pod.sidecar_pids())) / 1024 for pod in cluster.pods)
        for _ in range(rounds):
            for terminate in (True, False):
                leader = cluster.leader()
                since = time.monotonic_ns()
                leader.terminate() if terminate else leader.kill_sidecar()
                cluster.wait_for_one_forger(PATIENCE_S, other_than=leader)
                (row.stopped_s if terminate else row.vanished_s).append(round(cluster.gap_s(since), 3))
                leader.revive()
                cluster.wait_healthy(PATIENCE_S)
    return row


# --- electors and arbiters alone ---


class Setting:
    """Pools of pods in shared processes."""

    def __init__(self, api: RealApi, pools: int, pods: int, name: str) -> None:
        self._stack = contextlib.ExitStack()
        folder = MemoryFolder()
        self._stack.callback(folder.close)
        kubeconfig = folder.path / "kubeconfig"
        api.write_kubeconfig(kubeconfig)
        # Other names in each setting, so that none finds another's leases.
        names = [f"{name}{pool}:{pod}" for pool in range(pools) for pod in range(pods)]
        self._host: dict[str, Child] = {}
        self.hosts: list[Child] = []
        words = ("--folder", str(folder.path), "--kubeconfig", str(kubeconfig))
        for first in range(0, len(names), IN_A_PROCESS):
            some = names[first : first + IN_A_PROCESS]
            child = Child(*words, *some, module="bench.electors")
            self._stack.callback(child.close)
            self.hosts.append(child)
            self._host |= dict.fromkeys(some, child)
        for child in self.hosts:
            child.answers.get(timeout=PATIENCE_S)
        self.leading: dict[str, str] = {}
        """Pool -> the pod that leads."""

    def close(self) -> None:
        self._stack.close()

    def say(self, word: str, pod: str = "") -> None:
        for child in [self._host[pod]] if pod else self.hosts:
            child.say(f"{word} {pod}".strip())

    def changes(self, seconds: float) -> Iterator[tuple[str, bool, int]]:
        """Each change of who leads: pod, whether it does, when; until so long has passed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = []
            for child in self.hosts:
                with contextlib.suppress(queue.Empty):
                    while True:
                        found.append(child.events.get_nowait())
            for event in sorted(found, key=lambda event: int(event["at"])):
                pod, leads = event["pod"], event["forges"]
                pool = pod.partition(":")[0]
                if leads:
                    self.leading[pool] = pod
                elif self.leading.get(pool) == pod:
                    del self.leading[pool]
                yield pod, leads, event["at"]
            time.sleep(0.01)

    def settle(self, seconds: float) -> None:
        for _ in self.changes(seconds):
            pass

    def change_leader(self, word: str) -> float:
        """Of one pool, by `stop` or `vanish`; seconds in which nobody led.  Raises TimeoutError."""
        pool, old = max(self.leading.items())
        off = time.monotonic_ns()
        self.say(word, old)
        for pod, leads, at in self.changes(PATIENCE_S):
            if pod == old and not leads:
                off = at
            elif leads and pod != old and pod.startswith(f"{pool}:"):
                self.say("back", old)
                return round((at - off) / NS, 3)
        raise TimeoutError(f"no other pod of {pool} leads")

    def cpu_s(self) -> float:
        return sum(float(host.ask()["cpu_s"]) for host in self.hosts)


def shared(api: RealApi, pools: int, pods: int, seconds: float, rounds: int) -> Row:
    """One size.  Raises TimeoutError."""
    row, setting = Row(pools, pods), Setting(api, pools, pods, f"p{pools}x{pods}n")
    try:
        began = time.monotonic()
        setting.say("start")
        for _ in setting.changes(PATIENCE_S):
            if len(setting.leading) == pools:
                break
        else:
            raise TimeoutError(f"{len(setting.leading)} of {pools} pools have a leader")
        row.start_s = round(time.monotonic() - began, 2)
        setting.settle(SETTLE_S)

        def look() -> tuple[float, float, float, float]:
            counts = api.counts().get(ADMIN, {})
            writes = sum(counts.get(verb, 0) for verb in ("create", "update", "patch"))
            return sum(counts.values()), _server_cpu_s(api), setting.cpu_s() / (pools * pods), writes

        before, began = look(), time.monotonic()
        setting.settle(seconds)
        after, took = look(), time.monotonic() - began
        row.requests, row.server_cpu_s, row.pod_cpu_s, writes = (
            per_minute(a, b, took) for a, b in zip(before, after, strict=True)
        )
        began_writes, began = look()[3], time.monotonic()
        for _ in range(rounds):
            row.stopped_s.append(setting.change_leader("stop"))
            setting.settle(3)
        passed = time.monotonic() - began
        row.writes = round((look()[3] - began_writes - writes * passed / 60) / max(rounds, 1), 1)
        for _ in range(min(rounds, 2)):
            row.vanished_s.append(setting.change_leader("vanish"))
            setting.settle(3)
    finally:
        setting.close()
    return row


@contextlib.contextmanager
def _server() -> Iterator[tuple[results.Machine, RealApi]]:
    build()
    machine = results.Machine()
    with RealApi() as api:
        admin = AdminClient(api.url, api.ca_file, api.token_for(ADMIN))
        admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield machine, api


def run(series: str, sizes: list[int], seconds: float, rounds: int) -> results.Json:
    """One of `SERIES`, on a server of its own.  Raises BuildError, TimeoutError."""
    rows = []
    with _server() as (machine, api):
        for size in sizes:
            if series == "whole":
                row = whole(api, size, seconds, 1)
            elif series == "pods":
                row = shared(api, 1, size, seconds, rounds)
            else:
                row = shared(api, size, 2, seconds, rounds)
            print(time.strftime("%H:%M:%S"), row, file=sys.stderr, flush=True)
            rows.append(asdict(row))
        return {
            "kind": series,
            "command": results.command("bench.scaling"),
            "facts": machine.facts(),
            "api": f"kube-apiserver {version()}",
            "rest_seconds": seconds,
            "rows": rows,
        }


def main() -> int:
    """Command line."""

    def sizes(text: str) -> list[int]:
        return [int(word) for word in text.split(",") if word]

    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--whole", type=sizes, default=[2, 5, 10, 20], help="whole pods of one pool")
    parser.add_argument("--pods", type=sizes, default=[2, 20, 200], help="electors and arbiters of one pool")
    parser.add_argument("--pools", type=sizes, default=[1, 20, 100, 200], help="pools of two")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each size is watched at rest")
    parser.add_argument("--watches", type=float, default=250.0, help="the same for --pods: longer than a watch lives")
    parser.add_argument("--rounds", type=int, default=3, help="hand-overs in order of each size")
    parser.add_argument("--out", type=Path, default=results.FOLDER, help="folder")
    chosen = parser.parse_args()
    try:
        for series in SERIES:
            if counts := getattr(chosen, series):
                seconds = chosen.watches if series == "pods" else chosen.seconds
                found = run(series, counts, seconds, chosen.rounds)
                results.write(chosen.out / f"{series}.json", found)
                print(report.scaling(series, found), flush=True)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
