"""`make bench`: the fence by a thousand deaths, the cost at rest, fail-over beside its peers, and under siege.

Figures, no verdicts.  What it measures it prints; the results in bench/results stay as they are.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys

from bench import cost, failover, report, sandbox, siege
from bench.peers.kinds import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="deaths of the actuator")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the pods are watched at rest")
    parser.add_argument("--failovers", type=int, default=3, help="of each kind")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, load {load:.1f}\n", flush=True)
    print("== the fence: SIGKILL of the actuator until its node is off", flush=True)
    # A process of its own: forks of one that holds a Kubernetes client would measure the copying of its pages.
    subprocess.run([sys.executable, "-m", "bench.fence", "--rounds", str(chosen.rounds)], check=True)
    print("\n== the sandbox", flush=True)
    print(sandbox.report(9), flush=True)
    print("\n== cost at rest", flush=True)
    print(cost.report(chosen.seconds), flush=True)
    print("\n== fail-over", flush=True)
    found = failover.run(chosen.failovers, chosen.seconds, 1, "real", KINDS)
    print(f"{report.cost(found)}\n\n{report.failover(found)}", flush=True)
    print("\n== hand-overs while the gateways are besieged", flush=True)
    print(siege.report(chosen.failovers), flush=True)


if __name__ == "__main__":
    main()
