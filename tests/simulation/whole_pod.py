"""One pod, all of it the product's but its surroundings: Elector, Arbiter, Actuator, Prober and NodeWatch as they are.

Simulated are the machine (`simulated_host`), the node and its files (`simulated_node`), the sockets between the workers
and the API servers.  supervisord's part, a worker that has ended is started again, is played here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

import ipc.complaints
import workers.actuator
import workers.arbiter
import workers.clusters
import workers.coordination
import workers.elector
import workers.node_watch
import workers.pool_lock
import workers.prober
from config import load
from gateway.views import Picture, ready
from ipc.messages import ActuatorState, ArbiterState, Body, ElectorState, Role, StandDown, Worker
from ipc.peers import Peer
from kube.session import ApiSession
from policy import timing
from workers.actuator import Actuator
from workers.arbiter import Arbiter
from workers.elector import Elector
from workers.prober import Prober
from workers.runtime import Context

import simulated_host
import simulated_node
from schedules import SilentReporter
from simulated_api import Leases, Session, SimulatedApi
from simulated_fleet import ForgeClusters
from simulated_host import Machine, Process, wall_s
from simulated_node import Node
from simulated_pod import WORKERS, Sockets, Surroundings
from simulated_time import loop_now


class _Surroundings(Surroundings):
    """Of one process: a dead one says nothing."""

    def __init__(self, pod: WholePod, worker: Worker, life: Process) -> None:
        super().__init__(pod.sockets, worker, pod.config)
        self._pod, self._life = pod, life
        life.at_death.append(self.close)

    def publish(self, body: Body) -> None:
        if self._life.acts():
            self._pod.on_publish(self._worker, body)
            super().publish(body)

    def _send(self) -> None:
        if self._life.alive:
            super()._send()


class WholePod:
    """Four workers, a node, and who restarts them."""

    def __init__(
        self,
        number: int,
        folder: Path,
        api: SimulatedApi,
        on_change: Callable[[], None],
        *,
        name: str = "",
        environment: dict[str, str] | None = None,
        coordinators: Sequence[SimulatedApi] = (),
        called: str = "",
    ) -> None:
        """`coordinators`: of cluster management, in the order of its configuration.

        `name`: no other pod has it; `called`: its POD_NAME, if that is another.
        """
        self.name = name or f"pod-{number}"
        self.api, self.coordinators = api, tuple(coordinators)
        self.machine = Machine(self.name, api.rng)
        given = {"RUN_DIR": str(folder), "POD_NAME": called or self.name, "KUBECONFIG": "/unused"}
        self.config = load(given | (environment or {}))
        self.config.run_dir.mkdir(parents=True, exist_ok=True)
        self.config.instance_file.parent.mkdir(parents=True, exist_ok=True)
        self._instance = f"{number:08x}"
        self.write_instance()
        self.node = Node(self.machine, self.config, on_change)
        self.machine.node = self.node
        self.sockets = Sockets(api.rng)
        self.lives: dict[Worker, Process] = {}
        self.on_publish: Callable[[Worker, Body], None] = lambda _worker, _body: None
        self.supervised = False
        """A worker that ends is started again."""
        self.leaves = False
        """Another pod of its name is there already."""
        self._around: dict[Worker, _Surroundings] = {}
        self._elector: Elector | None = None

    @property
    def rng(self) -> random.Random:
        return self.machine.rng

    # --- processes ---

    def start(self, worker: Worker) -> None:
        if worker not in self.lives:
            life = self.lives[worker] = Process(self.machine, str(worker))
            life.at_death.append(lambda: self._died(worker, life))
            life.failed = lambda error: self._failed(life, error)
            life.context.copy().run(self._start, worker, life)

    def _start(self, worker: Worker, life: Process) -> None:
        around = self._around[worker] = _Surroundings(self, worker, life)
        context = cast("Context", around)
        if worker is Worker.ELECTOR:
            self._elector = Elector(context, self._session(self.api, life))
            work = self._elector.run()
        elif worker is Worker.ARBITER:
            others = [self._session(each, life) for each in self.coordinators]
            work = Arbiter(context, self._session(self.api, life), others).run()
        elif worker is Worker.ACTUATOR:
            work = Actuator(context).run()
        else:
            work = Prober(context, None).run()
        life.patience_ns = timing.ACTUATOR_WATCHDOG if worker is Worker.ACTUATOR else timing.WATCHDOG
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda task: self._ended(life, task))

    def _session(self, api: SimulatedApi, life: Process) -> ApiSession:
        made = Session(api, self.name)
        made.alive = life.acts
        return cast("ApiSession", made)

    def _ended(self, life: Process, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._failed(life, error)
        life.die()

    def _failed(self, life: Process, error: Exception) -> None:
        """Anything that it did not foresee ends a worker: a full disk may, nothing else."""
        foreseen = not life.alive or (self.machine.disk_full and isinstance(error, OSError))
        life.die()
        if not foreseen:
            raise error  # to the loop's exception handler, which fails the schedule

    def _died(self, worker: Worker, life: Process) -> None:
        if self.lives.get(worker) is life:
            del self.lives[worker]
        if self.supervised:
            self.machine.soon(self.rng.choice([0.15, 0.3, 0.6]), lambda: self._restart(worker))

    def _restart(self, worker: Worker) -> None:
        if self.supervised:
            self.start(worker)

    def kill(self, worker: Worker) -> None:
        if worker in self.lives:
            self.lives[worker].die()

    def kill_all(self) -> None:
        """supervisord too."""
        self.supervised = False
        for worker in WORKERS:
            self.kill(worker)

    def start_all(self) -> None:
        """Each some time within a second, as real processes do."""
        if self.node.gone:
            return
        self.supervised = True
        for worker in WORKERS:
            self.machine.soon(self.rng.uniform(0, 0.8), lambda worker=worker: self._restart(worker))

    def ask_to_stop(self) -> None:
        """SIGTERM to all, by supervisord, which starts none of them again."""
        self.supervised = False
        loop = asyncio.get_running_loop()
        for worker, life in self.lives.items():
            loop.call_soon(self._around[worker].stopping.set, context=life.context.copy())

    def forget(self) -> None:
        """What is left of it in RUN_DIR is gone: it becomes another instance."""
        self.machine.disk.clear()
        self._instance = f"{self.rng.randrange(2**32):08x}"
        self.write_instance()

    def write_instance(self) -> None:
        """Which it is; also where another process that was forked from this one's world has written another."""
        self.config.instance_file.write_text(f"{self._instance}\n", encoding="ascii")

    def vanish(self) -> None:
        """Its machine is no more."""
        self.node.gone = True
        self.kill_all()
        self.node.end()

    def pause(self) -> None:
        """The whole machine stands still."""
        self.machine.pause()
        self.node.on_change()

    def resume(self) -> None:
        self.node.wakes_up()
        self.machine.resume()
        self.node.on_change()

    # --- what is to be seen of it ---

    def said(self, worker: Worker) -> Body | None:
        state = self.sockets.latest.get(worker)
        return state.body if state is not None else None

    def role(self) -> str:
        said = self.said(Worker.ELECTOR)
        return str(said.role) if isinstance(said, ElectorState) else "absent"

    def fence(self) -> str:
        said = self.said(Worker.ACTUATOR)
        return str(said.fence) if isinstance(said, ActuatorState) else "absent"

    def lock_phase(self) -> str:
        said = self.said(Worker.ARBITER)
        if not isinstance(said, ArbiterState):
            return "absent"
        return str(said.pool.phase) if said.pool is not None else "granting" if said.grant is not None else "silent"

    def leads(self) -> bool:
        said = self.said(Worker.ELECTOR)
        return isinstance(said, ElectorState) and said.role in (Role.LEADER, Role.HANDOVER)

    def ready(self) -> bool:
        """As the gateway would answer /ready."""
        states = self.sockets.latest
        now = self.machine.now()
        picture = Picture(self.config, "", now, 0, states, dict.fromkeys(states, True))
        return ready(picture).status == 200

    def stand_down(self, seconds: float) -> None:
        life = self.lives.get(Worker.ELECTOR)
        if self._elector is not None and life is not None and not life.stands_still:
            command = StandDown(seconds, "asked by the schedule")
            operator = Peer(pid=1, uid=0, gid=0)
            life.context.copy().run(self._elector._stand_down, command, operator)  # as from its socket


async def _no_event(*_: object, **__: object) -> None:
    """Kubernetes Events are no part of the decision."""


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """The product's adapters are simulated ones while this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        product = (
            workers.elector,
            workers.arbiter,
            workers.actuator,
            workers.prober,
            workers.pool_lock,
            workers.clusters,
            workers.coordination,
            ipc.complaints,
        )
        for module in product:
            patch.setattr(module, "boottime_ns", loop_now)
        for module in (workers.elector, workers.arbiter, workers.pool_lock):
            patch.setattr(module, "LeaseClient", Leases)
        wall = types.SimpleNamespace(time=wall_s)
        for module in (workers.coordination, workers.clusters, workers.prober, workers.elector):
            patch.setattr(module, "time", wall)
        dice = types.SimpleNamespace(
            token_hex=lambda size: random.randbytes(size).hex(), token_bytes=lambda size: random.randbytes(size)
        )
        for module in (workers.pool_lock, workers.elector, workers.arbiter):
            patch.setattr(module, "secrets", dice)
        patch.setattr(workers.clusters, "ForgeClusterClient", ForgeClusters)
        patch.setattr(workers.clusters.events, "emit", _no_event)
        patch.setattr(workers.elector, "LeaderReporter", SilentReporter)
        for module in (workers.elector, workers.arbiter, workers.pool_lock, workers.actuator):
            patch.setattr(module, "Notebook", simulated_host.Notebook)
        for name in ("DeathSignal", "DeathTimer", "WallClockWatch"):
            patch.setattr(workers.actuator, name, getattr(simulated_host, name))
        patch.setattr(workers.actuator, "Credentials", simulated_node.Credentials)
        for name in ("NodeProcess", "check_socket", "find_by_name", "read_argv", "read_status", "start_ticks"):
            patch.setattr(workers.node_watch, name, getattr(simulated_node, name))
        for name in ("check_socket", "fetch"):
            patch.setattr(workers.prober, name, getattr(simulated_node, name))
        yield
