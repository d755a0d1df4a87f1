"""Hand-overs while a crowd besieges every gateway, beside hand-overs with that crowd elsewhere, in the same run.

    python -m bench.siege [--rounds 8]

In turn the leader is told to stand down, or its node is killed: in peace, with the crowd around the gateways of another
pool on this machine, and around ours.  The crowd and those who answer it take their part of the machine in the last two
alike: their ratio is what the siege itself does.  Seconds without a forger by the nodes' own records; the gateways'
highest memory.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from typing import Final

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pods import Cluster
from devkit.siege import Siege, peak_mib

KINDS: Final = ("stand-down", "node killed")
CROWDS: Final = ("in peace", "with the crowd elsewhere", "under siege")


def report(rounds: int) -> str:
    """As many hand-overs of each kind, in peace and under siege."""
    api, elsewhere = ThreadedApi(EmbeddedApi()), ThreadedApi(EmbeddedApi())
    api.start_sync()
    elsewhere.start_sync()
    gaps: dict[tuple[str, str], list[float]] = {(kind, crowd): [] for kind in KINDS for crowd in CROWDS}
    answers = 0
    try:
        with Cluster(api) as cluster, Cluster(elsewhere) as bystanders:
            cluster.wait_healthy(90)
            bystanders.wait_healthy(90)
            crowded = dict(zip(CROWDS, (None, bystanders.pods, cluster.pods), strict=True))
            peace = max(peak_mib(pod) for pod in cluster.pods)
            for _ in range(rounds):
                for kind in KINDS:
                    for crowd, pods in crowded.items():
                        with Siege(pods) if pods is not None else contextlib.nullcontext() as siege:
                            time.sleep(2)
                            gaps[kind, crowd].append(_hand_over(cluster, kind))
                            answers += siege.answers if siege is not None and pods is cluster.pods else 0
                        cluster.wait_healthy(90)
            peak = max(peak_mib(pod) for pod in cluster.pods)
            overlap = cluster.overlap_s(cluster.began)
    finally:
        api.stop_sync()
        elsewhere.stop_sync()
    lines = [f"{rounds} of each; seconds without a forger, median (most)"]
    for kind in KINDS:
        told = ", ".join(f"{crowd} {_both(gaps[kind, crowd])}" for crowd in CROWDS)
        ratio = statistics.median(gaps[kind, CROWDS[2]]) / statistics.median(gaps[kind, CROWDS[1]])
        lines.append(f"{kind}: {told}, ratio of the last two {ratio:.2f}")
    lines.append(f"two forgers: {overlap:.3f} s; scrapes answered meanwhile: {answers}")
    lines.append(f"a gateway's memory (VmHWM): {peace:.1f} MiB before, {peak:.1f} MiB after")
    return "\n".join(lines)


def _hand_over(cluster: Cluster, kind: str) -> float:
    leader = cluster.leader()
    since = time.monotonic_ns()
    if kind == "stand-down":
        leader.forgectl("stand-down", "--no-wait", "--for", "3")
    else:
        leader.kill_node()
    cluster.wait_for_one_forger(60, other_than=leader)
    return cluster.gap_s(since)


def _both(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({max(seconds):.3f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    print(report(parser.parse_args().rounds))
