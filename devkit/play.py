"""`make play`: the demo's three pods, kept running for you to break."""

from __future__ import annotations

import os
import shlex
import time

from rich.console import Console

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.ending import end_cleanly
from devkit.pods import Cluster


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
    console.print(f"\nkubectl --kubeconfig {cluster.kubeconfig} -n cardano get leases,cardanoleaders -w")
    for pod in cluster.pods:
        console.print(f"\n[bold]{pod.name}[/]  {pod.address}/status  {pod.address}/metrics")
        pids = "  ".join(f"{name} {pid}" for name, pid in pod.worker_pids().items())
        console.print(f"  node {pod.node_pid}  {pids}")
        console.print(f"  forgectl --run-dir {shlex.quote(str(pod.run_dir))} status   (or: stand-down --for 30)")
    console.print("\nkill -9 or kill -STOP any of these; nodes and sidecars come back after 2 s. Ctrl-C ends it all.\n")


_last: list[str] = []


def _show(console: Console, cluster: Cluster) -> None:
    names = [pod.name for pod in cluster.forgers()]
    if names != _last:
        _last[:] = names
        console.print(f"{time.strftime('%H:%M:%S')}  forging: {' and '.join(names) or 'nobody'}")


if __name__ == "__main__":
    main()
