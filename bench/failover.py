"""How long nobody leads after a fault: this product, and the least that client-go's leader election can be.

    python -m bench.failover [--rounds 3]

Both on the same API server in the same run, three instances each, LEASE_DURATION 15 (client-go: renew deadline 10 s,
retry period 2 s, its defaults).  The peer has no node to fence: it "stops" when it believes so, which makes its times
a lower bound.  Two leaders at once are counted from the records of both kinds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.cost import api_server
from devkit import record
from devkit.api import ADMIN, SyncApiServer
from devkit.pod import MemoryFolder
from devkit.pods import Cluster
from devkit.proxy import FaultyProxy
from devkit.realapi.build import cache_folder

_PEER: Final = Path(__file__).with_name("peer")
NS: Final = 1_000_000_000


def build_peer() -> Path:
    """The peer, built into the cache unless it is there.  Raises CalledProcessError, FileNotFoundError (no Go)."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((_PEER / name).read_bytes())
    program = cache_folder().parent / "peer" / digest.hexdigest()[:16] / "peer"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(program), "."]
        subprocess.run(command, cwd=_PEER, check=True)
    return program


@dataclass
class Peer:
    """One client-go elector."""

    name: str
    record_file: Path
    proxy: FaultyProxy
    process: subprocess.Popen[bytes]

    def intervals(self, now: int) -> list[record.Interval]:
        """When it led; a killed one until its last word."""
        events = record.read(self.record_file)
        if self.process.poll() is not None and events and events[-1]["event"] != "off":
            events.append({"t": events[-1]["t"], "event": "exit", "node": self.name})
        return record.intervals(events, now)


@dataclass
class Peers:
    """Three of them around one Lease."""

    api: SyncApiServer
    namespace: str
    program: Path
    folder: MemoryFolder = field(default_factory=MemoryFolder)
    peers: list[Peer] = field(default_factory=list)

    def start(self, count: int = 3) -> None:
        for _ in range(count):
            self.add()
        self.wait_for(lambda: self.leader() is not None, 60)

    def add(self) -> None:
        """One more elector, with an API path of its own."""
        name = f"peer-{len(self.peers)}"
        proxy = FaultyProxy(self.api, ADMIN)
        config = self.folder.path / f"{name}.json"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": proxy.url}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        written = self.folder.path / f"{name}.record"
        command = [str(self.program), "--kubeconfig", str(config), "--name", name, "--namespace", self.namespace]
        command += ["--record", str(written)]
        log = (self.folder.path / f"{name}.log").open("wb")
        with log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.peers.append(Peer(name, written, proxy, process))

    def nodes(self, now: int) -> dict[str, list[record.Interval]]:
        return {peer.name: peer.intervals(now) for peer in self.peers}

    def leader(self) -> Peer | None:
        now = time.monotonic_ns()
        names = record.forgers_at(self.nodes(now), now - 1)
        found = [peer for peer in self.peers if peer.name in names and peer.process.poll() is None]
        return found[0] if len(found) == 1 else None

    def wait_for(self, what: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise TimeoutError("the peers did not come to rest")
            time.sleep(0.02)

    def close(self) -> None:
        for peer in self.peers:
            peer.process.kill()
            peer.process.wait()
            peer.proxy.close()
        self.folder.close()


Result = tuple[float, float]
"""Seconds without a leader, seconds with two."""


def _of_peers(peers: Peers, make: Callable[[Peer], None], mend: Callable[[Peer], None], wait_s: float) -> Result:
    leader = peers.leader()
    assert leader is not None
    since = time.monotonic_ns()
    make(leader)
    peers.wait_for(lambda: peers.leader() not in (None, leader) or wait_s > 0, 60)
    time.sleep(max(wait_s, 1))
    mend(leader)
    if leader.process.poll() is not None:
        peers.add()
    time.sleep(3)
    peers.wait_for(lambda: peers.leader() is not None, 60)
    now = time.monotonic_ns()
    nodes = peers.nodes(now)
    return record.gap_s(nodes, since, now), record.overlap_s(nodes, since, now)


def peer_faults(peers: Peers) -> dict[str, Callable[[], Result]]:
    def pause(peer: Peer) -> None:
        peer.process.send_signal(signal.SIGSTOP)

    def all_refuse(_: Peer) -> None:
        for peer in peers.peers:
            peer.proxy.refuse()

    def all_pass(_: Peer) -> None:
        for peer in peers.peers:
            peer.proxy.let_pass()

    def none(_: Peer) -> None:
        return

    return {
        "SIGTERM": lambda: _of_peers(peers, lambda p: p.process.terminate(), none, 0),
        "SIGKILL": lambda: _of_peers(peers, lambda p: p.process.kill(), none, 0),
        "API path hangs": lambda: _of_peers(peers, lambda p: p.proxy.hang(), lambda p: p.proxy.let_pass(), 0),
        "frozen for 20 s": lambda: _of_peers(peers, pause, lambda p: p.process.send_signal(signal.SIGCONT), 20),
        "API gone for 6 s": lambda: _of_peers(peers, all_refuse, all_pass, 6),
    }


def _of_pods(cluster: Cluster, make: Callable[[], None], mend: Callable[[], None], wait_s: float) -> Result:
    leader = cluster.leader()
    since = time.monotonic_ns()
    make()
    if wait_s:
        time.sleep(wait_s)
    else:
        cluster.wait_for_one_forger(60, other_than=leader)
        time.sleep(1)
    mend()
    time.sleep(3)
    cluster.wait_for_one_forger(60)
    result = cluster.gap_s(since), cluster.overlap_s(since)
    cluster.wait_healthy(90)
    return result


def pod_faults(cluster: Cluster) -> dict[str, Callable[[], Result]]:
    def terminate() -> Result:
        leader = cluster.leader()
        return _of_pods(cluster, leader.terminate, leader.revive, 0)

    def kill() -> Result:
        leader = cluster.leader()
        return _of_pods(cluster, leader.kill_sidecar, leader.revive, 0)

    def hang() -> Result:
        leader = cluster.leader()
        return _of_pods(cluster, leader.proxy.hang, leader.proxy.let_pass, 0)

    def freeze() -> Result:
        leader = cluster.leader()
        frozen: list[int] = []
        return _of_pods(cluster, lambda: frozen.extend(leader.freeze_sidecar()), lambda: leader.thaw(frozen), 20)

    def gone() -> Result:
        def each(act: str) -> None:
            for proxy in cluster.proxies:
                getattr(proxy, act)()

        return _of_pods(cluster, lambda: each("refuse"), lambda: each("let_pass"), 6)

    return {
        "SIGTERM": terminate,
        "SIGKILL": kill,
        "API path hangs": hang,
        "frozen for 20 s": freeze,
        "API gone for 6 s": gone,
    }


def report(rounds: int) -> str:
    """Medians side by side, and the ratio."""
    if shutil.which("go") is None:
        return "no Go here: the client-go peer cannot be built, so there is nothing to compare with"
    program = build_peer()
    with api_server() as (name, api), contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(api, namespace="failover"))
        cluster.wait_healthy(120)
        peers = Peers(api, "failover", program)
        stack.callback(peers.close)
        peers.start()
        lines = [
            f"on the {name}, medians of {rounds}; seconds without a leader (with two)",
            f"  {'fault':<18} {'this product':>18} {'client-go':>18} {'ratio':>7}",
        ]
        ours, theirs = pod_faults(cluster), peer_faults(peers)
        for fault in ours:
            a = [ours[fault]() for _ in range(rounds)]
            b = [theirs[fault]() for _ in range(rounds)]
            gap_a, gap_b = statistics.median(g for g, _ in a), statistics.median(g for g, _ in b)
            two_a, two_b = max(o for _, o in a), max(o for _, o in b)
            ratio = f"{gap_a / gap_b:.2f}" if gap_b > 0.01 else "-"
            lines.append(f"  {fault:<18} {gap_a:>9.2f} ({two_a:.2f}) {gap_b:>10.2f} ({two_b:.2f}) {ratio:>7}")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.failover")
    parser.add_argument("--rounds", type=int, default=3)
    print(report(parser.parse_args().rounds))
