"""A process of `bench.scaling`: many pods' electors and arbiters, as they are in the product, without the rest of them.

    python -m bench.electors --folder F --kubeconfig K POOL:POD ...

Each pod has the real `workers.elector.Elector` and the real `workers.arbiter.Arbiter`, each with a session of its own
over HTTP, and notebooks in files.  Not real: the two hear each other without sockets; the prober always says fit; the
actuator is armed the moment it has both grants and fenced the moment it has not; many pods share this process.

Answers lines of standard input with lines of JSON, and ends with it: `start`; `tell`; `stop POOL:POD` (in order, with a
release); `vanish POOL:POD` (without a word); `back POOL:POD`.  Says by itself when a pod is armed or fenced.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from bench.arbiters import asked, tell
from bench.cost import cpu_s, pss_kib
from config import Config, load
from devkit import states
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    Body,
    ElectorState,
    Fence,
    NodeView,
    Proof,
    StartFlag,
    State,
    Worker,
    news,
)
from kernel.clock import boottime_ns
from kube.session import ApiSession
from workers.arbiter import Arbiter
from workers.elector import Elector
from workers.runtime import Context

NAMESPACE: Final = "bench"
FOREVER: Final = 2**62
_NODE: Final = NodeView(pid=1, start_ticks=1, up=True, takes_hup=True, flag=StartFlag.NON_PRODUCING, problem="")


class Heard:
    """In place of a subscription: what a worker of this pod said last, never out of date."""

    connected = True

    def __init__(self, between: Between, worker: Worker) -> None:
        self._between, self._worker = between, worker

    def last(self) -> State | None:
        body = self._between.bodies.get(self._worker)
        if body is None:
            return None
        now = boottime_ns()
        return State(self._worker, "bench", os.getpid(), 1, now, now, FOREVER, body)

    def current(self, now: int) -> State | None:
        return self.last()


class Between:
    """The workers of one pod: what each said last, and who wants to hear of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bodies: dict[Worker, Body] = {Worker.PROBER: states.prober()}
        self._wakes: dict[Worker, list[Callable[[], None]]] = {worker: [] for worker in Worker}
        self._armed = False
        self.say(Worker.ACTUATOR, self._actuator(None, None))

    def subscribe(self, worker: Worker, on_change: Callable[[], None]) -> Heard:
        self._wakes[worker].append(on_change)
        return Heard(self, worker)

    def say(self, worker: Worker, body: Body) -> None:
        before, self.bodies[worker] = self.bodies.get(worker), body
        if not news(before, body):
            return
        for wake in self._wakes[worker]:
            wake()
        if worker is not Worker.ACTUATOR and self._wakes[Worker.ACTUATOR]:
            asyncio.get_running_loop().call_soon(self._judge)

    def _judge(self) -> None:
        elector, arbiter = self.bodies.get(Worker.ELECTOR), self.bodies.get(Worker.ARBITER)
        said = self._actuator(
            elector if isinstance(elector, ElectorState) else None,
            arbiter if isinstance(arbiter, ArbiterState) else None,
        )
        armed = said.fence is Fence.ARMED
        if armed is not self._armed:
            self._armed = armed
            tell(pod=self.name, forges=armed, at=time.monotonic_ns())
        self.say(Worker.ACTUATOR, said)

    @staticmethod
    def _actuator(elector: ElectorState | None, arbiter: ArbiterState | None) -> ActuatorState:
        armed = elector is not None and elector.grant is not None and arbiter is not None and arbiter.grant is not None
        return states.actuator(
            fence=Fence.ARMED if armed else Fence.FENCED,
            since=0,
            proof=Proof.METRICS,
            node=_NODE,
            heard_giving_up=arbiter.giving_up if arbiter is not None and arbiter.grant is None else "",
            heard_withdrawn=arbiter.withdrawn if arbiter is not None and arbiter.grant is None else 0,
        )

    def gone(self) -> None:
        """All workers of the pod ended at once."""
        if self._armed:
            tell(pod=self.name, forges=False, at=time.monotonic_ns())


class Around:
    """In place of a worker's context."""

    def __init__(self, config: Config, between: Between, worker: Worker, stopping: asyncio.Event) -> None:
        self.config, self.stopping = config, stopping
        self.parent = None
        self._between, self._worker = between, worker

    def subscribe(self, worker: Worker, on_change: Callable[[], None]) -> Heard:
        return self._between.subscribe(worker, on_change)

    def publish(self, body: Body) -> None:
        self._between.say(self._worker, body)


class Pod:
    """Its elector and its arbiter."""

    def __init__(self, name: str, folder: Path, kubeconfig: Path) -> None:
        self.name = name
        pool, number = name.split(":")
        run = folder / name.replace(":", "-")
        run.mkdir()
        self._config = load(
            {
                "PATH": os.environ.get("PATH", ""),
                "RUN_DIR": str(run),
                "POD_NAME": f"pod-{number}",
                "NAMESPACE": NAMESPACE,
                "LEASE_NAME": f"pool-{pool}",
                "CRD_NAME": f"pool-{pool}",
                "KUBECONFIG": str(kubeconfig),
                "SANDBOX": "permissive",
                "LOG_LEVEL": "WARNING",
            }
        )
        for worker in (Worker.ELECTOR, Worker.ARBITER):
            self._config.worker_dir(worker).mkdir(parents=True)
        self._lives = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """A new life of the pod: another instance."""
        self._lives += 1
        self._config.instance_file.write_text(f"{self._lives:08x}\n")
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(self._stopping))
        self._task.add_done_callback(_fail_stop)

    async def _run(self, stopping: asyncio.Event) -> None:
        between = Between(self.name)
        agents = (f"bench/{worker}" for worker in (Worker.ELECTOR, Worker.ARBITER))
        sessions = [ApiSession(self._config.kubeconfig, user_agent=agent) for agent in agents]
        async with sessions[0], sessions[1]:
            contexts = [
                cast("Context", Around(self._config, between, worker, stopping))
                for worker in (Worker.ELECTOR, Worker.ARBITER)
            ]
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(Elector(contexts[0], sessions[0]).run())
                    both.create_task(Arbiter(contexts[1], sessions[1]).run())
            finally:
                between.gone()

    def stop(self) -> None:
        """In order: the lease is released."""
        self._stopping.set()

    def vanish(self) -> None:
        """Without a word to anybody."""
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])


def _fail_stop(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logging.getLogger("bench").critical("ended by a fault", exc_info=error)
        os._exit(1)


async def host(folder: Path, kubeconfig: Path, names: list[str]) -> None:
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    pods = {name: Pod(name, folder, kubeconfig) for name in names}
    tell(ready=len(pods))
    async for line in asked():
        word, _, name = line.partition(" ")
        if word == "start":
            for pod in pods.values():
                pod.start()
        elif word == "stop":
            pods[name].stop()
        elif word == "vanish":
            pods[name].vanish()
        elif word == "back":
            await pods[name].ended()
            pods[name].start()
        else:
            tell(cpu_s=cpu_s(os.getpid()), pss_kib=pss_kib(os.getpid()), pods=len(pods))
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.electors")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("pods", nargs="+", metavar="POOL:POD")
    told = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(host(told.folder, told.kubeconfig, told.pods))


if __name__ == "__main__":
    main()
