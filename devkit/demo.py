"""`make demo`: three pods, one forger; things are killed, and the nodes' own records say what it cost.

No cluster, no root, no arguments.  Exit code 0 only if never two nodes forged and every bound held.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.ending import end_cleanly
from devkit.pods import Cluster, Pod

LEASE_S: Final = 15
MACHINE_S: Final = 0.5
"""Allowed beside each bound for the machine that runs nine processes more than a pod does."""


@dataclass
class Result:
    fault: str
    gap_s: float
    overlap_s: float
    bound_s: float

    @property
    def good(self) -> bool:
        return self.overlap_s == 0 and self.gap_s <= self.bound_s + MACHINE_S


class Demo:
    """Tells what happens while it happens."""

    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._began = time.monotonic()
        self._shown: tuple[str, ...] | None = None
        self.results: list[Result] = []

    def say(self, text: str, style: str = "") -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:6.2f} s[/dim]  {text}", style=style, highlight=False)

    def watch(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Show each change of forger until `until`, or for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self._show()
            time.sleep(0.02)
        self._show()

    def _show(self) -> None:
        names = tuple(pod.name for pod in self._cluster.forgers())
        if names == self._shown:
            return
        self._shown = names
        if len(names) == 1:
            self.say(f"[bold green]{names[0]} forges[/]")
        elif names:
            self.say(f"[bold red]{' and '.join(names)} forge at once[/]")
        else:
            self.say("[yellow]nobody forges[/]")

    def fault(self, title: str, bound_s: float, make: Callable[[Pod], str], mend: Callable[[Pod], None]) -> None:
        """Break the leader, wait for another, mend, measure."""
        cluster = self._cluster
        leader = cluster.leader()
        self._console.rule(f"[bold]{title}", align="left")
        since = time.monotonic_ns()
        self.say(make(leader))
        others = [pod for pod in cluster.pods if pod is not leader]
        self.watch(bound_s + 20, lambda: any(pod in others for pod in cluster.forgers()))
        self.watch(1.2)
        result = Result(title, cluster.gap_s(since), cluster.overlap_s(since), bound_s)
        self.results.append(result)
        self.say(f"{result.gap_s:.2f} s without a forger, {result.overlap_s:.2f} s with two")
        mend(leader)
        cluster.wait_healthy(60)

    def table(self) -> bool:
        """Print what was measured; whether all was well."""
        table = Table(title="measured from the nodes' own records", title_justify="left")
        table.add_column("fault")
        for column in ("without a forger", "with two", "bound"):
            table.add_column(column, justify="right")
        table.add_column("")
        for result in self.results:
            mark = "[green]ok[/]" if result.good else "[red]broken[/]"
            table.add_row(
                result.fault,
                f"{result.gap_s:.2f} s",
                f"{result.overlap_s:.2f} s",
                f"{result.bound_s:g} s",
                mark,
            )
        self._console.print(table)
        return all(result.good for result in self.results)


def run(console: Console) -> int:
    """The whole show.  0: all bounds held."""
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    try:
        console.print(
            "Three pods of one pool, each with a simulated cardano-node and its own forge-manager,\n"
            f"around one embedded Kubernetes API at {api.url}; LEASE_DURATION={LEASE_S}.\n"
        )
        with Cluster(api) as cluster:
            for obstacle in cluster.pods[0].not_closed_because:
                console.print(f"Without the sandbox (SANDBOX=permissive): {obstacle}\n", markup=False)
            demo = Demo(cluster, console)
            demo.watch(60, lambda: bool(cluster.forgers()) or any(pod.sidecar_ended() for pod in cluster.pods))
            if ended := next((pod for pod in cluster.pods if pod.sidecar_ended()), None):
                said = ended.log.read_text(errors="replace").splitlines()[-20:]
                console.print(f"{ended.name}'s sidecar does not stay up here. It said:", *said, sep="\n", markup=False)
                return 1
            cluster.wait_healthy(60)
            demo.say("all three are up, fit and ready: two hot standbys")
            _faults(demo)
            _audit(demo, cluster)
            whole = cluster.overlap_s(cluster.began)
            good = demo.table() and whole == 0
            console.print(
                f"From start to end two nodes forged at once for {whole:.2f} s. "
                + ("All well." if good else "NOT WELL.")
            )
            return 0 if good else 1
    finally:
        api.stop_sync()


def _faults(demo: Demo) -> None:
    def crash(pod: Pod) -> str:
        pod.kill_node(signal.SIGKILL)
        return f"SIGKILL to {pod.name}'s node"

    def drain(pod: Pod) -> str:
        done = pod.forgectl("stand-down", "--for", "3")
        return f"forgectl stand-down on {pod.name}: {done.stdout.strip() or done.stderr.strip()}"

    def massacre(pod: Pod) -> str:
        pod.kill_sidecar()
        return f"SIGKILL to {pod.name}'s whole sidecar, at once; its node is on its own"

    def stall(pod: Pod) -> str:
        pod.proxy.hang()
        return f"the API server accepts {pod.name}'s connections and never answers"

    demo.fault("node crash", 1, crash, lambda pod: None)
    demo.fault("drain", 1, drain, lambda pod: None)
    demo.fault("sidecar killed", LEASE_S + 1, massacre, lambda pod: pod.revive())
    demo.fault("API stall", LEASE_S + 1, stall, lambda pod: pod.proxy.let_pass())


def _audit(demo: Demo, cluster: Cluster) -> None:
    """Every worker of one pod tries what it must not be able to do."""
    done = cluster.pods[0].forgectl("audit")
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    demo.say(f"forgectl audit on {cluster.pods[0].name}: {lines[-1] if lines else 'nothing said'}")


def main() -> None:
    console = Console(width=None if sys.stdout.isatty() else 100)
    end_cleanly()
    try:
        code = run(console)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        code = 130
    except OSError as error:  # a TimeoutError is one
        console.print(f"the demo went wrong: {error}", markup=False)
        code = 1
    sys.stdout.flush()
    os._exit(code)  # daemon threads hold nothing any more: children are ended and folders removed


if __name__ == "__main__":
    main()
