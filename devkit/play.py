"""`make play`: the demo's three pods, kept running for you to break."""

from __future__ import annotations

import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.ending import end_cleanly
from devkit.pods import Cluster, Pod


def main() -> None:
    console = Console()
    end_cleanly()
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    try:
        with Cluster(api) as cluster:
            cluster.wait_healthy(90)
            for pod in cluster.pods:
                pod.restart_sidecar_after = 2.0
            for obstacle in cluster.pods[0].not_closed_because:
                console.print(f"without the sandbox (SANDBOX=permissive): {obstacle}", markup=False)
            _explain(console, cluster)
            while True:
                _show(console, cluster)
                time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("\neverything is stopped")
    finally:
        api.stop_sync()
    os._exit(0)


def _explain(console: Console, cluster: Cluster) -> None:
    """A line that is to be typed is one line, however narrow the terminal."""
    say = partial(console.print, soft_wrap=True, highlight=False)
    say(f"\nkubectl --kubeconfig {cluster.kubeconfig} -n {cluster.namespace} get leases -w   (or: cardanoleaders)")
    for pod in cluster.pods:
        say(f"\n[bold]{pod.name}[/]  {pod.address}/status  {pod.address}/metrics")
        pids = "  ".join(f"{name} {pid}" for name, pid in pod.worker_pids().items())
        say(f"  node {pod.node_pid}  {pids}")
        say(f"  {command_for(pod)} status   (or: stand-down --for 30)")
    say("\nkill -9 or kill -STOP any of these; nodes and sidecars come back after 2 s. Ctrl-C ends it all.\n")


def command_for(pod: Pod) -> str:
    """forgectl as it is typed beside this pod; in its container it would know all of that by itself."""
    told = {name: pod.environment[name] for name in ("POD_NAME", "NAMESPACE", "RUN_DIR")}
    forgectl = os.path.relpath(Path(sys.executable).with_name("forgectl"))
    return shlex.join(["env", *(f"{name}={value}" for name, value in told.items()), forgectl])


_last: list[str] = []


def _show(console: Console, cluster: Cluster) -> None:
    names = [pod.name for pod in cluster.forgers()]
    if names != _last:
        _last[:] = names
        console.print(f"{time.strftime('%H:%M:%S')}  forging: {' and '.join(names) or 'nobody'}")


if __name__ == "__main__":
    main()
