"""What the sandbox costs: at the start of each worker, and with each system call afterwards.

    python -m bench.sandbox [--rounds 9]

The peer is the same process just before it closes its sandbox: how long it took to get there, and what the same calls
cost it then.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, TypedDict

from ipc.messages import Worker

CALLS: Final = ("getppid", "fcntl", "open")
_CHILD: Final = """
import time, sys, json, os, fcntl, importlib
from pathlib import Path
began = float(sys.argv[2])
module = importlib.import_module("workers." + sys.argv[1])
from config import load
from sandbox.close import close
from sandbox.places import Endpoint
config = load(os.environ)
def cost(call, rounds=20000):
    best = []
    for _ in range(5):
        start = time.perf_counter_ns()
        for _ in range(rounds): call()
        best.append((time.perf_counter_ns() - start) / rounds)
    return min(best)
calls = {
    "getppid": lambda: cost(os.getppid),
    "fcntl": lambda: cost(lambda: fcntl.fcntl(0, fcntl.F_GETFD)),
    "open": lambda: cost(lambda: os.close(os.open("/proc/self/stat", os.O_RDONLY)), 2000),
}
ready = time.clock_gettime(time.CLOCK_BOOTTIME)
endpoint = Endpoint(("127.0.0.1",), (6443,), (Path(os.environ["KUBECONFIG"]),))
before = {name: measure() for name, measure in calls.items()}
start = time.perf_counter_ns()
closed = close(module.PRIVILEGES, config, endpoint if module.PRIVILEGES.api_token else None)
took = (time.perf_counter_ns() - start) / 1e6
after = {name: measure() for name, measure in calls.items()}
print(json.dumps({"start": (ready - began) * 1e3, "close": took, "before": before, "after": after}))
"""


class Figures(TypedDict):
    """Of one process."""

    start: float
    """ms from its creation until it has loaded what it needs."""
    close: float
    """ms."""
    before: dict[str, float]
    after: dict[str, float]
    """ns for each of CALLS."""


def one(worker: Worker, folder: Path) -> Figures:
    """A worker's process, started anew."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "RUN_DIR": str(folder / "run"),
        "KUBECONFIG": str(folder / "api" / "kubeconfig"),
        **{f"SOURCE_{key}": str(folder / "secrets" / key) for key in ("KES_KEY", "VRF_KEY", "OP_CERT")},
        **{f"TARGET_{key}": str(folder / "ipc" / key) for key in ("KES_KEY", "VRF_KEY", "OP_CERT")},
        "NODE_SOCKET": str(folder / "ipc" / "node.socket"),
    }
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD, worker, str(began)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    found: Figures = json.loads(done.stdout)
    return found


def report(rounds: int) -> str:
    """Two tables; medians of so many fresh processes."""
    lines = [f"{'worker':<10}{'start to ready':>16}{'closing':>10}    medians of {rounds}, ms"]
    with tempfile.TemporaryDirectory(prefix="fm-") as name:
        folder = Path(name)
        for part in ("run", "api", "secrets", "ipc", *(f"run/{worker}" for worker in Worker)):
            (folder / part).mkdir(mode=0o700)
        (folder / "api" / "kubeconfig").write_text("{}")
        for worker in Worker:
            found = [one(worker, folder) for _ in range(rounds)]
            start, closing = statistics.median(f["start"] for f in found), statistics.median(f["close"] for f in found)
            lines.append(f"{worker:<10}{start:>16.1f}{closing:>10.1f}")
    lines += ["", f"{'call':<10}{'before':>16}{'after':>10}    ns, least of five runs"]
    lines += [f"{name:<10}{found[-1]['before'][name]:>16.0f}{found[-1]['after'][name]:>10.0f}" for name in CALLS]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    print(report(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
